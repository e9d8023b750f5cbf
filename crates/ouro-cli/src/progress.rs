//! Progress on a terminal; nothing where nobody looks.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ouro_engine::api::{Progress, Unit};
use parking_lot::Mutex;
use std::io::IsTerminal;
use std::sync::Arc;

/// How often a bar is drawn, per second.
const DRAWS_PER_SECOND: u8 = 8;

/// The one bar of this process. Copies are the same bar.
#[derive(Clone)]
pub(crate) struct Bar(Option<Arc<Shown>>);

struct Shown {
    bar: ProgressBar,
    shape: Mutex<Option<(Unit, bool)>>,
}

impl Bar {
    /// A bar on standard error, if that is a terminal and `wanted`. It appears with the first progress.
    pub(crate) fn new(wanted: bool) -> Bar {
        if !wanted || !std::io::stderr().is_terminal() {
            return Bar(None);
        }
        Bar::on(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND))
    }

    fn on(target: ProgressDrawTarget) -> Bar {
        let bar = ProgressBar::with_draw_target(None, target);
        Bar(Some(Arc::new(Shown { bar, shape: Mutex::default() })))
    }

    /// Shows how far it is.
    pub(crate) fn step(&self, progress: &Progress) {
        let Some(shown) = &self.0 else {
            return;
        };
        let (bar, shape) = (&shown.bar, (progress.unit, progress.total.is_some()));
        if shown.shape.lock().replace(shape) != Some(shape) {
            bar.set_style(style(progress.unit, progress.total.is_some()));
        }
        match progress.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(progress.done);
        bar.set_message(progress.what.clone());
        bar.tick();
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(unit: Unit, of_known: bool) -> ProgressStyle {
    let template = match (unit, of_known) {
        (Unit::Bytes, true) => "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        (Unit::Bytes, false) => "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}",
        (Unit::Files, true) => "{msg} {wide_bar} {human_pos}/{human_len} {eta}",
        (Unit::Files, false) => "{spinner} {msg} {human_pos}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_progress_can_be_drawn() {
        for unit in [Unit::Bytes, Unit::Files] {
            for total in [None, Some(10)] {
                let bar = Bar::on(ProgressDrawTarget::hidden());
                bar.step(&Progress { what: "sending".into(), done: 5, total, unit });
                let shown = bar.0.as_ref().expect("it is there");
                assert_eq!((shown.bar.position(), shown.bar.length()), (5, total));
            }
        }
    }
}
