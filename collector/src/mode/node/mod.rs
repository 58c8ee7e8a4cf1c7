//! Beside everything: follows every CI job of a node, and sends one summary of each.
//!
//! `follow` reads the node once each interval and shares out what was read; `group` decides which job a pod runs;
//! here is what comes of it: summaries, checkpoints, metrics.

mod clock;
mod environments;
mod follow;
mod group;
mod groups;
mod metrics;
mod names;
mod samples;
mod send;
mod serve;

use std::collections::HashMap;
use std::process::ExitCode;
use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::{info, warn};

use self::follow::Follower;
use self::groups::GroupKey;
use self::send::Sender;
use super::file_thread::FileThread;
use super::outbox::{RECOVERY_AGE, open_spool};
use super::ticker::Ticker;
use crate::attribute::containers::KeptContainers;
use crate::config::{Config, NodeConfig};
use crate::deliver::checkpoint::Head;
use crate::deliver::push::Pusher;
use crate::deliver::recover::{Recovered, close, recover_all};
use crate::deliver::spool::Spool;
use crate::host;
use crate::sample::boot_id;

/// Runs until SIGINT or SIGTERM.
pub(super) async fn run(config: Rc<Config>, node: &NodeConfig) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (_, open_files_limit) = host::raise_open_files();
    let file_thread = FileThread::start();
    let pusher = config.push.as_ref().map(Pusher::new);
    let spool = open_spool(&config)?;
    let mut scrapes = serve::start(node.metrics).await?;
    let recovered = match &spool {
        Some(spool) => recover(spool)?,
        None => HashMap::new(),
    };
    let (mut follower, left) =
        Follower::begin(&config, node, pusher.clone(), spool.clone(), open_files_limit, recovered)?;
    if let Some(spool) = &spool {
        for one in left {
            close(spool, one)?;
        }
    }
    file_thread.settle();
    let mut sender = Sender::new(Rc::clone(&config), pusher, spool);
    let mut ticker = Ticker::new(config.interval);
    info!(interval = ?config.interval, proc_path = %config.proc_path.display(), job_idle = ?node.job_idle, "measuring");
    let signal = loop {
        tokio::select! {
            missed = ticker.tick() => {
                follower.count_missed(missed);
                pass(&mut follower, &mut sender, node, false)?;
            }
            () = sender.work(&mut follower) => {}
            reply = scrapes.next() => {
                // Whoever asked may have gone.
                let _ = reply.send(metrics::render(&follower, &sender));
            }
            _ = hangup.recv() => info!("push tokens are read again when their file is another one"),
            _ = interrupt.recv() => break "SIGINT",
            _ = terminate.recv() => break "SIGTERM",
        }
    };
    let deadline = Instant::now() + config.shutdown_timeout;
    info!(signal, "stopping: one last pass; the jobs go on");
    pass(&mut follower, &mut sender, node, true)?;
    let again = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let delivered = sender.leave(&mut follower, deadline, again).await;
    Ok(ExitCode::from(if delivered { super::EXIT_OK } else { super::EXIT_PUSH }))
}

fn pass(follower: &mut Follower, sender: &mut Sender, node: &NodeConfig, last: bool) -> anyhow::Result<()> {
    for (number, job, end) in follower.pass(node, last)? {
        if let Some(group) = follower.groups.get(number) {
            sender.finish(job, end, group, &follower.facts);
        }
    }
    follower.forget_pods();
    sender.after_pass(follower);
    Ok(())
}

/// The runs of a node's collector that was stopped or killed, by their pods; a pod has one, the latest.
fn recover(spool: &Spool) -> anyhow::Result<HashMap<GroupKey, Recovered>> {
    let boot_id = boot_id::read();
    let now = host::Instant::now().boot;
    let is_ours = |head: &Head| {
        let age = now.checked_sub(head.written);
        head.mode == "node"
            && boot_id.is_some()
            && head.boot_id == boot_id
            && age.is_some_and(|age| age <= RECOVERY_AGE)
            && group_key(&head.containers).is_some()
    };
    let mut runs = HashMap::new();
    for recovered in recover_all(spool, is_ours)? {
        let Some(key) = group_key(&recovered.checkpoint.head.containers) else { continue };
        if let Some(earlier) = runs.insert(key, recovered) {
            let earlier: Recovered = earlier;
            warn!(
                run_id = earlier.checkpoint.head.run.run_id,
                "a pod has two runs to go on with: the earlier one is over"
            );
            close(spool, earlier)?;
        }
    }
    Ok(runs)
}

/// Whose containers these are.
fn group_key(containers: &KeptContainers) -> Option<GroupKey> {
    let first = containers.first()?;
    let pod = first.pod_uid.clone().map(GroupKey::Pod);
    pod.or_else(|| first.id().map(|id| GroupKey::Container(id.to_owned())))
}
