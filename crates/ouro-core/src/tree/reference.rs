//! A node by what it is, with what readers want to know before they fetch it.

use crate::codec::{DecodeError, Reader, Writer, read_locator, write_locator};
use crate::content::Locator;
use crate::id::{FileId, NodeId};

/// Names a node and the tree below it. Two are equal if they are the same rows, wherever their bytes lie.
#[derive(Clone, Copy)]
pub struct NodeRef {
    /// What: keyed hash of the logical bytes.
    pub id: NodeId,
    /// 0 for leaves.
    pub level: u8,
    /// Rows below, of every kind.
    pub rows: u64,
    /// Least and greatest file id among the records below, derived ids left out; least > greatest if there is none.
    pub ids: (FileId, FileId),
    /// Where; `None` while it is only on this device.
    pub at: Option<Locator>,
}

/// The range of ids that holds none.
pub(super) const NO_IDS: (FileId, FileId) = (FileId(u64::MAX), FileId(0));

/// The smallest range that holds both.
pub(super) fn join_ids(a: (FileId, FileId), b: (FileId, FileId)) -> (FileId, FileId) {
    (a.0.min(b.0), a.1.max(b.1))
}

impl NodeRef {
    /// Whether the record of `file` can be below: certain for ids that devices hand out, unknown for derived ones.
    pub fn may_hold(&self, file: FileId) -> bool {
        file.is_derived() || (self.ids.0 <= file && file <= self.ids.1)
    }
}

impl PartialEq for NodeRef {
    fn eq(&self, other: &NodeRef) -> bool {
        (self.id, self.level, self.rows, self.ids) == (other.id, other.level, other.rows, other.ids)
    }
}
impl Eq for NodeRef {}

impl core::fmt::Debug for NodeRef {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}/{} ({} rows)", self.id, self.level, self.rows)
    }
}

/// Writes a reference by itself, locator included.
pub fn write_node_ref(out: &mut Writer, node: &NodeRef) {
    out.raw(&node.id.0);
    out.u8(node.level);
    out.varint(node.rows);
    out.varint(node.ids.0.0);
    out.varint(node.ids.1.0);
    match &node.at {
        None => out.u8(0),
        Some(at) => {
            out.u8(1);
            write_locator(out, at);
        }
    }
}

/// Reads what [`write_node_ref`] wrote.
///
/// # Errors
/// [`DecodeError`] for anything else.
pub fn read_node_ref(input: &mut Reader<'_>) -> Result<NodeRef, DecodeError> {
    let id = NodeId(input.array()?);
    let level = input.u8()?;
    let rows = input.varint()?;
    let ids = (FileId(input.varint()?), FileId(input.varint()?));
    let at = match input.u8()? {
        0 => None,
        1 => Some(read_locator(input)?),
        _ => return Err(DecodeError::Invalid { what: "flag of a locator" }),
    };
    Ok(NodeRef { id, level, rows, ids, at })
}
