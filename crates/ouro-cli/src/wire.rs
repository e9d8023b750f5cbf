//! What goes over the private socket: JSON, one document a line. A client sends one [`Call`] and reads [`Line`]s until the answer.

use ouro_engine::api::{Event, Progress, Request, Response};
use serde::{Deserialize, Serialize};

/// Counts up when an old client and a new engine, or the other way round, would misunderstand each other.
pub(crate) const VERSION: u32 = 1;

/// Longest line that is read, in bytes: the longest answer is the listing of a very large directory.
pub(crate) const LINE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Longest call that is read, in bytes.
pub(crate) const CALL_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What a client sends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// [`VERSION`] of the client.
    pub(crate) version: u32,
    /// What it wants.
    pub(crate) call: Request,
}

/// What the engine sends: any number of lines about progress and events, then one answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// How far it is.
    Progress(Progress),
    /// Something became so, for who asked to hear of it.
    Event(Box<Event>),
    /// The answer; the last line.
    Answer(Box<Response>),
    /// Instead of an answer: the engine is ending and did nothing. Ask the next one.
    Ending,
}

/// A document as a line.
pub(crate) fn to_line(document: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(document)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ouro_engine::api::Unit;

    #[test]
    fn what_is_sent_is_what_arrives() {
        let call = Call { version: VERSION, call: Request::Wait { path: Some("/m/ä".into()), timeout_seconds: None } };
        let line = to_line(&call).expect("plain values");
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let back: Call = serde_json::from_slice(&line).expect("the same document");
        assert!(matches!(back.call, Request::Wait { path: Some(path), timeout_seconds: None } if path.ends_with("ä")));
    }

    #[test]
    fn the_two_kinds_of_lines_can_be_told_apart() {
        let progress = Progress { what: "x".into(), done: 1, total: None, unit: Unit::Bytes };
        let line = serde_json::to_string(&Line::Progress(progress)).expect("plain values");
        assert!(line.starts_with(r#"{"progress":"#), "{line}");
        let line = serde_json::to_string(&Line::Answer(Box::new(Response::Done))).expect("plain values");
        assert_eq!(line, r#"{"answer":{"answer":"done"}}"#);
    }
}
