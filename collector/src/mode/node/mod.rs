//! Node mode: follows every CI job of a node and publishes a summary of each.
//!
//! `measurement` reads the node once each interval and splits the figures by pod; `membership` decides to which job of its
//! pod each process belongs, and `shares` splits a pod's figures by job; `pod` follows the jobs of a pod, each with its `job_run`; `publisher` sends
//! summaries and writes checkpoints.

mod evidence;
mod job_env;
mod job_run;
mod measurement;
mod membership;
mod metrics;
mod pod;
mod pods;
mod publisher;
mod serve;
mod shares;

use std::collections::HashMap;
use std::process::ExitCode;
use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::{info, warn};

use self::measurement::NodeMeasurement;
use self::pod::PodKey;
use self::publisher::{NodePublisher, next_step, step};
use super::stop_signals::StopSignals;
use crate::attribute::containers::SavedContainers;
use crate::config::{Config, NodeConfig};
use crate::deliver::checkpoint::Head;
use crate::deliver::push::Pusher;
use crate::deliver::recover::{Recovered, close, recover_all};
use crate::deliver::spool::Spool;
use crate::engine::publisher::{open_spool, resumable};
use crate::engine::writer_thread::WriterThread;
use crate::host;

/// Runs until SIGINT or SIGTERM.
pub(super) async fn run(config: Rc<Config>, node: &NodeConfig) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (_, open_files_limit) = host::raise_open_files();
    let writer_thread = WriterThread::start();
    let pusher = config.push.as_ref().map(Pusher::new);
    let spool = open_spool(&config)?;
    let mut scrapes = serve::start(node.metrics).await?;
    let recovered = match &spool {
        Some(spool) => recover(spool)?,
        None => HashMap::new(),
    };
    let (mut measurement, left) =
        NodeMeasurement::start(&config, node, pusher.clone(), spool.clone(), open_files_limit, recovered)?;
    if let Some(spool) = &spool {
        for one in left {
            close(spool, one)?;
        }
    }
    writer_thread.settle();
    let mut publisher = NodePublisher::new(Rc::clone(&config), pusher, spool);
    info!(interval = ?config.interval, proc_path = %config.proc_path.display(), job_idle = ?node.job_idle, "measuring");
    let signal = loop {
        tokio::select! {
            () = measurement.sampler.due() => {
                let ended = measurement.pass(false)?;
                publisher.after_pass(&mut measurement, ended);
            }
            (job, next) = next_step(&mut measurement.pods) => step(&mut measurement, job, next),
            reply = scrapes.next() => {
                // The client may have closed its connection.
                let _ = reply.send(metrics::render(&measurement, &publisher));
            }
            _ = hangup.recv() => info!("push tokens are read again when their file changes"),
            signal = signals.recv() => break signal,
        }
    };
    let deadline = Instant::now() + config.shutdown_timeout;
    info!(signal, "stopping: one last pass; the jobs continue");
    let ended = measurement.pass(true)?;
    publisher.after_pass(&mut measurement, ended);
    let again = async {
        signals.recv().await;
    };
    let delivered = publisher.leave(&mut measurement, deadline, again).await;
    Ok(super::exit_code(delivered))
}

/// The runs of a collector that was stopped or killed, by pod.
fn recover(spool: &Spool) -> anyhow::Result<HashMap<PodKey, Vec<Recovered>>> {
    let resumable = resumable("node");
    let is_ours = |head: &Head| resumable(head) && pod_key(&head.containers).is_some();
    let mut runs: HashMap<PodKey, Vec<Recovered>> = HashMap::new();
    for recovered in recover_all(spool, is_ours)? {
        let Some(key) = pod_key(&recovered.checkpoint.head.containers) else { continue };
        let of_pod = runs.entry(key).or_default();
        let containers = &recovered.checkpoint.head.containers;
        if of_pod.iter().all(|other| other.checkpoint.head.containers.is_same_list(containers)) {
            of_pod.push(recovered);
        } else {
            warn!(
                run_id = recovered.checkpoint.head.run.run_id,
                "the checkpoints of a pod have different containers: one of its runs ends here"
            );
            close(spool, recovered)?;
        }
    }
    Ok(runs)
}

/// The pod of these containers.
fn pod_key(containers: &SavedContainers) -> Option<PodKey> {
    let first = containers.first()?;
    let pod = first.pod_uid.clone().map(PodKey::Pod);
    pod.or_else(|| first.id().map(|id| PodKey::Container(id.to_owned())))
}
