//! The cluster's addresses, from 198.18.0.0/15, which is reserved for tests and not routed (RFC 2544, RFC 6890).

use std::process::Command;

use anyhow::{Context, Result};

/// The number of clusters that fit into the range.
const BLOCKS: u8 = 16;

/// A block of 32 networks of 256 addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Network {
    block: u8,
}

impl Network {
    pub(crate) fn of(block: u8) -> Self {
        Self { block }
    }

    /// The first block that this machine has no route to.
    pub(crate) fn free() -> Result<(u8, Self)> {
        let output = Command::new("ip").args(["-4", "route"]).output().context("cannot run ip")?;
        let routes = String::from_utf8_lossy(&output.stdout);
        let free =
            |block: &u8| !routes.contains(&Self::of(*block).address(0, 0).trim_end_matches('0').to_owned());
        let block =
            (0..BLOCKS).find(free).context("all addresses for clusters are in use: `ip route` shows them")?;
        Ok((block, Self::of(block)))
    }

    fn address(self, network: u8, host: u8) -> String {
        format!("198.{}.{}.{host}", 18 + self.block / 8, (self.block % 8) * 32 + network)
    }

    /// The machine's end of the cable.
    pub(crate) fn machine(self) -> String {
        self.address(0, 1)
    }

    pub(crate) fn node(self) -> String {
        self.address(0, 2)
    }

    /// The node's end of the cable to the Docker Engine.
    pub(crate) fn engine_gateway(self) -> String {
        self.address(1, 1)
    }

    pub(crate) fn engine(self) -> String {
        self.address(1, 2)
    }

    pub(crate) fn pods(self) -> String {
        format!("{}/21", self.address(8, 0))
    }

    pub(crate) fn services(self) -> String {
        format!("{}/20", self.address(16, 0))
    }
}
