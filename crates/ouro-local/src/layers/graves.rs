//! Files of dropped layers that must stay until the removal of their rows is durable.

use crate::ledger::Ticket;
use std::collections::{BTreeMap, HashMap};

/// Paths by the ticket of the unit that removes their rows. Finding a path, and the paths whose time has come, costs no walk over the rest:
/// there are as many as there are files in a commit.
#[derive(Default)]
pub(super) struct Graves {
    by_ticket: BTreeMap<Ticket, Vec<String>>,
    /// The newest ticket of each path.
    newest: HashMap<String, Ticket>,
}

impl Graves {
    /// Notes that a file goes once `ticket` is durable.
    pub(super) fn add(&mut self, ticket: Ticket, path: String) {
        let newest = self.newest.entry(path.clone()).or_insert(ticket);
        *newest = ticket.max(*newest);
        self.by_ticket.entry(ticket).or_default().push(path);
    }

    /// Takes a path out, because its name is in use again; the newest ticket it waited for.
    pub(super) fn take(&mut self, path: &str) -> Option<Ticket> {
        let newest = self.newest.remove(path)?;
        // It may wait for older units besides: those entries find no path any more and are skipped.
        if let Some(paths) = self.by_ticket.get_mut(&newest) {
            paths.retain(|p| p != path);
        }
        Some(newest)
    }

    /// Takes out every path whose ticket `is_durable`.
    pub(super) fn due(&mut self, is_durable: impl Fn(Ticket) -> bool) -> Vec<(Ticket, String)> {
        let mut due = Vec::new();
        while let Some(first) = self.by_ticket.first_entry() {
            let ticket = *first.key();
            if !is_durable(ticket) {
                break;
            }
            for path in first.remove() {
                // A path taken out, or that waits for a later unit too, stays.
                if self.newest.get(&path) == Some(&ticket) {
                    self.newest.remove(&path);
                    due.push((ticket, path));
                }
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Ledger, Mode};

    fn tickets(count: usize) -> Vec<Ticket> {
        let ledger = Ledger::open_in_memory(None, Mode::Inline).unwrap();
        (0..count).map(|_| ledger.submit(Vec::new())).collect()
    }

    #[test]
    fn a_file_goes_with_its_newest_ticket_and_not_before() {
        let t = tickets(3);
        let mut graves = Graves::default();
        graves.add(t[0], "a".into());
        graves.add(t[1], "b".into());
        graves.add(t[2], "a".into());
        assert_eq!(graves.due(|ticket| ticket <= t[1]), [(t[1], "b".to_owned())]);
        assert_eq!(graves.due(|_| true), [(t[2], "a".to_owned())]);
        assert!(graves.due(|_| true).is_empty());
    }

    #[test]
    fn a_name_in_use_again_does_not_go() {
        let t = tickets(2);
        let mut graves = Graves::default();
        graves.add(t[0], "a".into());
        graves.add(t[1], "a".into());
        graves.add(t[1], "b".into());
        assert_eq!(graves.take("a"), Some(t[1]));
        assert_eq!(graves.take("a"), None);
        assert_eq!(graves.due(|_| true), [(t[1], "b".to_owned())]);
    }
}
