//! Tells the kernel what changed behind its back.
//!
//! Notices are queued and sent from a task that may block, never by whoever reports them: the kernel may first want the answer to a
//! request that is just being handled (it locks the directory, or waits for a page that is being read).

use fuser::{INodeNo, Notifier};
use ouro_core::port::Runtime;
use ouro_vfs::{Invalidate, NodeNo};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Most notices that wait to be sent; about 25 MB. Whoever reports one more waits until there is room: a lost one would leave a stale
/// cache for ever.
const NOTICES_MAX: usize = 262_144;

/// One thing the kernel must forget.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Notice {
    Entry { parent: NodeNo, name: Box<[u8]> },
    Node(NodeNo),
    Attributes(NodeNo),
}

/// Where notices go: the kernel, or a list in tests.
trait Sink: Send + Sync + 'static {
    fn send(&self, notice: &Notice) -> io::Result<()>;
}

impl Sink for Notifier {
    fn send(&self, notice: &Notice) -> io::Result<()> {
        match notice {
            Notice::Entry { parent, name } => self.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)),
            Notice::Node(node) => self.inval_inode(INodeNo(node.0), 0, 0), // from 0, length 0: all bytes
            Notice::Attributes(node) => self.inval_inode(INodeNo(node.0), -1, 0), // negative offset: no bytes
        }
    }
}

/// The kernel's caches of one mount.
pub(crate) struct KernelCaches {
    queue: Arc<Queue>,
    runtime: Arc<dyn Runtime>,
    notices_max: usize,
}

struct Queue {
    sink: Box<dyn Sink>,
    state: Mutex<State>,
    room: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Notice>,
    sending: bool,
}

impl KernelCaches {
    pub(crate) fn new(notifier: Notifier, runtime: Arc<dyn Runtime>) -> KernelCaches {
        KernelCaches::with_sink(Box::new(notifier), runtime, NOTICES_MAX)
    }

    fn with_sink(sink: Box<dyn Sink>, runtime: Arc<dyn Runtime>, notices_max: usize) -> KernelCaches {
        let queue = Queue { sink, state: Mutex::default(), room: Condvar::new() };
        KernelCaches { queue: Arc::new(queue), runtime, notices_max }
    }

    fn push(&self, notice: Notice) {
        let mut state = self.queue.state.lock();
        if state.waiting.back() == Some(&notice) {
            return;
        }
        while state.waiting.len() >= self.notices_max {
            self.queue.room.wait(&mut state);
        }
        state.waiting.push_back(notice);
        if !std::mem::replace(&mut state.sending, true) {
            drop(state);
            let queue = Arc::clone(&self.queue);
            self.runtime.spawn(self.runtime.blocking(Box::new(move || queue.send_all())));
        }
    }
}

impl Queue {
    /// Sends until nothing waits any more.
    fn send_all(&self) {
        loop {
            let batch = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() {
                    state.sending = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            self.room.notify_all();
            for notice in &batch {
                if let Err(error) = self.sink.send(notice) {
                    // The kernel forgets all by itself when the mount goes; a name it never knew is no error either.
                    tracing::debug!(%error, ?notice, "the kernel did not take a notice");
                }
            }
        }
    }
}

impl Invalidate for KernelCaches {
    fn entry(&self, parent: NodeNo, name: &[u8]) {
        self.push(Notice::Entry { parent, name: name.into() });
    }

    fn node(&self, node: NodeNo) {
        self.push(Notice::Node(node));
    }

    fn attributes(&self, node: NodeNo) {
        self.push(Notice::Attributes(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ouro_core::port::BoxFuture;
    use std::sync::mpsc;

    type Work = Box<dyn FnOnce() + Send>;

    #[derive(Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<Notice>>>);

    impl Sink for Recorder {
        fn send(&self, notice: &Notice) -> io::Result<()> {
            self.0.lock().push(notice.clone());
            Err(io::ErrorKind::NotConnected.into())
        }
    }

    /// Keeps blocking work until the test runs it.
    struct Held(mpsc::Sender<Work>);

    impl Runtime for Held {
        fn spawn(&self, task: BoxFuture<'static, ()>) {
            futures::executor::block_on(task);
        }
        fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
            self.0.send(work).expect("the test listens");
            Box::pin(async {})
        }
        fn sleep(&self, _: u64) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    fn caches(notices_max: usize) -> (KernelCaches, Recorder, mpsc::Receiver<Work>) {
        let recorder = Recorder::default();
        let (held, work) = mpsc::channel();
        let caches = KernelCaches::with_sink(Box::new(recorder.clone()), Arc::new(Held(held)), notices_max);
        (caches, recorder, work)
    }

    #[test]
    fn whoever_reports_a_change_sends_nothing_himself() {
        let (caches, recorder, work) = caches(8);
        caches.entry(NodeNo(1), b"a");
        caches.node(NodeNo(2));
        assert!(recorder.0.lock().is_empty());
        work.try_recv().expect("one task sends")();
        assert!(work.try_recv().is_err(), "and only one");
        let sent = recorder.0.lock().clone();
        assert_eq!(sent, [Notice::Entry { parent: NodeNo(1), name: b"a".as_slice().into() }, Notice::Node(NodeNo(2))]);
    }

    #[test]
    fn a_refused_notice_stops_neither_the_next_nor_the_next_task() {
        let (caches, recorder, work) = caches(8);
        caches.attributes(NodeNo(2));
        work.try_recv().expect("a task")();
        caches.attributes(NodeNo(3));
        work.try_recv().expect("a new task")();
        assert_eq!(recorder.0.lock().len(), 2);
    }

    #[test]
    fn the_same_notice_twice_in_a_row_is_sent_once() {
        let (caches, recorder, work) = caches(8);
        caches.node(NodeNo(2));
        caches.node(NodeNo(2));
        work.try_recv().expect("a task")();
        assert_eq!(recorder.0.lock().len(), 1);
    }

    #[test]
    fn a_full_queue_makes_the_reporter_wait_and_loses_nothing() {
        let (caches, recorder, work) = caches(2);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|node| caches.node(NodeNo(node))));
            while recorder.0.lock().len() < 100 {
                if let Ok(task) = work.try_recv() {
                    task();
                }
                std::thread::yield_now();
            }
        });
        let sent = recorder.0.lock().clone();
        assert_eq!(sent, (0..100).map(|node| Notice::Node(NodeNo(node))).collect::<Vec<_>>());
    }
}
