//! The shipped receiver on a loopback port.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::http::{Answer, request};
use crate::program::{Ended, Program, path};

/// The read token of the tests.
pub const READ_TOKEN: &str = "my-secret-token";
/// The HMAC key of the tests.
pub const HMAC_KEY: &str = "my-hmac-key";

/// The first arguments of every receiver in the tests.
pub const LISTENING: [&str; 2] = ["--addr=127.0.0.1:0", "--log-format=json"];

/// A receiver; killed when dropped.
#[derive(Debug)]
pub struct Receiver {
    program: Program,
    /// Its address.
    pub address: String,
}

/// The receiver with only its secrets set.
pub fn command() -> Command {
    let mut command = Command::new(path("RECEIVER_BIN", "receiver"));
    command.env("RECEIVER_READ_TOKEN", READ_TOKEN).env("RECEIVER_HMAC_KEY", HMAC_KEY);
    command
}

impl Receiver {
    /// Starts a receiver with this database.
    pub fn start(database: &Path) -> Self {
        Self::start_with(database, &[])
    }

    /// Starts a receiver with more arguments.
    pub fn start_with(database: &Path, arguments: &[&str]) -> Self {
        Self::start_as(database, arguments, |_| {})
    }

    /// Starts a receiver with more arguments and the changes that `prepare` makes to the command.
    pub fn start_as(database: &Path, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = command();
        command.args(LISTENING).arg("--db").arg(database).args(arguments);
        prepare(&mut command);
        Self::start_command(&mut command)
    }

    /// Starts this command, which must become a receiver with the arguments [`LISTENING`].
    pub fn start_command(command: &mut Command) -> Self {
        let program = Program::start(command);
        let address = program.wait_for("listening")["address"].as_str().expect("an address").to_owned();
        Self { program, address }
    }

    /// Sends a request with a bearer token and a JSON body; both may be empty.
    pub fn request(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        request(&self.address, method, path, token, body)
    }

    /// A push token for a scope, made over HTTP.
    pub fn token(&self, scope: &Value) -> String {
        let answer = self.request("POST", "/api/v1/token", READ_TOKEN, &scope.to_string());
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["token"].as_str().expect("a token").to_owned()
    }

    /// A push token for the job that most tests use.
    pub fn job_token(&self) -> String {
        self.token(
            &json!({"organization": "my-org", "repository": "my-repo", "workflow": "ci.yml", "job": "build"}),
        )
    }

    /// Pushes a summary.
    pub fn push(&self, token: &str, body: &str) -> Answer {
        self.request("POST", "/api/v1/metrics", token, body)
    }

    /// The runs of the job that most tests use.
    pub fn runs(&self) -> Vec<Value> {
        let answer = self.request("GET", "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build", READ_TOKEN, "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json().as_array().expect("an array").clone()
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Waits for the end of a receiver that has received a signal.
    pub fn stop_after_signal(self) -> Ended {
        self.program.wait()
    }

    /// Stops it and waits.
    pub fn stop(self) -> Ended {
        self.program.stop()
    }
}
