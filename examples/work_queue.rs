//! Workers take tasks from a queue; one of them is killed while it holds a task, and nothing is lost.

use std::time::Duration;

use offspring::{JoinableQueue, Process, Queue, Sender, TaskReceiver};

type Report = (u32, u32, u64);

/// Factors numbers; says how often each was given out.
fn work((tasks, started, results): (TaskReceiver<u64>, Sender<u64>, Sender<Report>)) {
    while let Ok(task) = tasks.recv() {
        let number = *task;
        started.send(number).expect("somebody listens");
        // The first to get the ninth task hangs in it.
        if number == 9 && task.delivery_count() == 1 {
            std::thread::sleep(Duration::from_secs(1000));
        }
        let report = (std::process::id(), task.delivery_count(), number * number);
        results.send(report).expect("somebody listens");
        task.done();
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tasks = JoinableQueue::new(32)?;
    let (started_sender, started) = Queue::new(64)?.split();
    let (result_sender, results) = Queue::new(64)?.split();
    let workers = (0..2)
        .map(|_| {
            Process::spawn(work, (tasks.receiver()?, started_sender.clone(), result_sender.clone())).map_err(Into::into)
        })
        .collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
    for number in 0..20 {
        tasks.send(number)?;
    }
    while started.recv()? != 9 {}
    // One of the two is hanging in the task: the other goes on, so whoever reports nothing more is the one.
    std::thread::sleep(Duration::from_millis(200));
    let busy: Vec<Report> = results.try_iter().collect();
    let last = busy.last().map(|report| report.0);
    for worker in &workers {
        if Some(worker.pid()) != last {
            worker.kill()?;
            println!("killed the worker that held task 9");
        }
    }
    tasks.join()?;
    let reports: Vec<Report> = busy.into_iter().chain(results.try_iter()).collect();
    let mut squares: Vec<u64> = reports.iter().map(|report| report.2).collect();
    squares.sort_unstable();
    assert_eq!(squares, (0..20).map(|number| number * number).collect::<Vec<u64>>());
    let again = reports.iter().filter(|report| report.1 == 2).count();
    println!("20 tasks done, {again} of them by a second worker, none lost");
    tasks.close();
    Ok(())
}
