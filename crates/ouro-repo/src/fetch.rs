//! Reading stored things by their places: neighbours in one object are read in one request.

use bytes::Bytes;
use futures::{StreamExt, stream};
use ouro_core::content::{BlobRef, Locator, ObjectId};

use crate::error::RepoError;
use crate::moved::HOPS_MAX;
use crate::object;
use crate::repository::Repository;

/// Two neighbours that are at most this many bytes apart are read together: cheaper than a second request.
const GAP_BYTES_MAX: u32 = 64 << 10;
/// One request reads at most this many bytes (a single larger blob excepted).
const REQUEST_BYTES_MAX: u32 = 8 << 20;
/// Requests in flight.
const REQUESTS_AT_ONCE: usize = 8;
/// Less than this is opened where it arrives; more goes to a blocking thread.
const OPEN_HERE_BYTES_MAX: usize = 64 << 10;

/// Something with a place: an index into the caller's list.
type Placed = (usize, Locator);

/// One request: a stretch of one object.
#[derive(Debug, PartialEq, Eq)]
struct Stretch {
    object: ObjectId,
    start: u32,
    end: u32,
    items: Vec<Placed>,
}

/// Groups places into as few requests as the limits allow.
fn stretches(mut items: Vec<Placed>) -> Vec<Stretch> {
    items.sort_by_key(|(_, at)| (at.object, at.offset, at.len));
    let mut all: Vec<Stretch> = Vec::new();
    for (index, at) in items {
        let end = at.offset.saturating_add(at.len);
        if let Some(last) = all.last_mut() {
            let near = last.object == at.object && at.offset <= last.end.saturating_add(GAP_BYTES_MAX);
            let joined = last.end.max(end);
            if near && (end <= last.end || joined - last.start <= REQUEST_BYTES_MAX) {
                last.end = joined;
                last.items.push((index, at));
                continue;
            }
        }
        all.push(Stretch { object: at.object, start: at.offset, end, items: vec![(index, at)] });
    }
    all
}

impl Repository {
    /// Fetches one blob in one ranged request, decrypts, decompresses and verifies it.
    ///
    /// # Errors
    ///
    /// [`RepoError::Unlocated`] without a place, [`RepoError::BlobGone`] if the object is not there, [`RepoError::Corrupt`] if what stands
    /// there is not that blob, or what the storage says.
    pub async fn fetch_blob(&self, blob: &BlobRef) -> Result<Bytes, RepoError> {
        let mut found = None;
        self.fetch_blobs(std::slice::from_ref(blob), &mut |_, bytes| found = Some(bytes)).await?;
        found.ok_or(RepoError::Interrupted)
    }

    /// Fetches many blobs: neighbours together, several requests at once. `each` gets every one as it comes, in no certain order.
    ///
    /// # Errors
    ///
    /// As [`Repository::fetch_blob`]: the first error, after everything that could be fetched was given to `each`.
    pub async fn fetch_blobs(
        &self,
        blobs: &[BlobRef],
        each: &mut (dyn FnMut(BlobRef, Bytes) + Send),
    ) -> Result<(), RepoError> {
        let mut failed = None;
        let mut placed = Vec::with_capacity(blobs.len());
        for (index, blob) in blobs.iter().enumerate() {
            match blob.at {
                Some(at) => placed.push((index, at)),
                None => failed = failed.or(Some(RepoError::Unlocated { what: format!("blob {}", blob.id) })),
            }
        }
        let ids: Vec<_> = blobs.iter().map(|blob| blob.id).collect();
        let gone = |index: usize, name: String| RepoError::BlobGone { blob: ids[index], name };
        let open_ids = ids.clone();
        let open = move |repo: &Repository, index: usize, sealed: &[u8]| repo.open_blob(&open_ids[index], sealed);
        let raw: Vec<[u8; 32]> = ids.iter().map(|id| id.0).collect();
        let fetched =
            self.fetch_stretches(placed, &raw, gone, open, &mut |index, bytes| each(blobs[index], bytes)).await;
        match failed {
            Some(error) => Err(error),
            None => fetched,
        }
    }

    /// Reads everything in `placed` and gives what `open` makes of it to `each`; returns the first error at the end. `ids` are those of the
    /// caller's list: what is not where it was is looked for where collections moved it.
    pub(crate) async fn fetch_stretches<T: Send + 'static>(
        &self,
        placed: Vec<Placed>,
        ids: &[[u8; 32]],
        gone: impl Fn(usize, String) -> RepoError + Send + Sync,
        open: impl Fn(&Repository, usize, &[u8]) -> Result<T, RepoError> + Clone + Send + Sync + 'static,
        each: &mut (dyn FnMut(usize, T) + Send),
    ) -> Result<(), RepoError> {
        let mut failed = None;
        let mut placed = placed;
        for _ in 0..=HOPS_MAX {
            let mut absent = Vec::new();
            let mut requests = stream::iter(stretches(placed))
                .map(|stretch| self.fetch_stretch(stretch, open.clone()))
                .buffer_unordered(REQUESTS_AT_ONCE);
            while let Some(opened) = requests.next().await {
                match opened {
                    Ok(Fetched::There(items)) => {
                        for (index, item) in items {
                            match item {
                                Ok(item) => each(index, item),
                                Err(error) => failed = failed.or(Some(error)),
                            }
                        }
                    }
                    Ok(Fetched::Absent(items)) => absent.extend(items),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            drop(requests);
            placed = Vec::with_capacity(absent.len());
            for (index, at) in absent {
                match self.follow(&ids[index], at.object).await {
                    Ok(Some(now)) => placed.push((index, now)),
                    Ok(None) => failed = failed.or(Some(gone(index, self.object_name(at.object)?))),
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            if placed.is_empty() {
                break;
            }
        }
        if let Some((index, at)) = placed.first() {
            failed = failed.or(Some(gone(*index, self.object_name(at.object)?)));
        }
        failed.map_or(Ok(()), Err)
    }

    async fn fetch_stretch<T: Send + 'static>(
        &self,
        stretch: Stretch,
        open: impl Fn(&Repository, usize, &[u8]) -> Result<T, RepoError> + Send + 'static,
    ) -> Result<Fetched<T>, RepoError> {
        let name = self.object_name(stretch.object)?;
        let (start, len) = (stretch.start, stretch.end - stretch.start);
        let Some(bytes) = self.store().get_range(&name, u64::from(start), u64::from(len)).await? else {
            return Ok(Fetched::Absent(stretch.items));
        };
        if bytes.len() != len as usize {
            return Err(RepoError::corrupt(object::describe(stretch.object), "another length than was asked for"));
        }
        let repo = self.clone();
        let open_all = move || {
            let open_one = |(index, at): &Placed| {
                let from = (at.offset - start) as usize;
                // A place beyond what an object can hold is not cut off silently.
                let short = || RepoError::corrupt(object::describe(at.object), "a place beyond its end");
                let sealed = bytes.get(from..from + at.len as usize).ok_or_else(short);
                (*index, sealed.and_then(|sealed| open(&repo, *index, sealed)))
            };
            stretch.items.iter().map(open_one).collect()
        };
        let opened = if len as usize <= OPEN_HERE_BYTES_MAX { open_all() } else { self.blocking(open_all).await? };
        Ok(Fetched::There(opened))
    }
}

/// What came of a request.
enum Fetched<T> {
    There(Vec<(usize, Result<T, RepoError>)>),
    /// The object is not there.
    Absent(Vec<Placed>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use ouro_core::id::PackId;

    fn at(pack: u8, offset: u32, len: u32) -> Locator {
        Locator { object: ObjectId::Pack(PackId([pack; 16])), offset, len }
    }

    fn spans(items: &[Locator]) -> Vec<(u32, u32, usize)> {
        let placed = items.iter().copied().enumerate().collect();
        stretches(placed).iter().map(|s| (s.start, s.end, s.items.len())).collect()
    }

    #[test]
    fn neighbours_are_read_together_and_strangers_apart() {
        assert_eq!(spans(&[at(1, 100, 50), at(1, 16, 84), at(2, 150, 10)]), [(16, 150, 2), (150, 160, 1)]);
        let gap = GAP_BYTES_MAX;
        assert_eq!(spans(&[at(1, 0, 10), at(1, 10 + gap, 10)]), [(0, 20 + gap, 2)]);
        assert_eq!(spans(&[at(1, 0, 10), at(1, 11 + gap, 10)]).len(), 2);
    }

    #[test]
    fn a_request_stays_within_its_limit_but_takes_a_larger_blob_whole() {
        let piece = REQUEST_BYTES_MAX / 2;
        let spans_of = |count: u32| spans(&(0..count).map(|n| at(1, n * piece, piece)).collect::<Vec<_>>());
        assert_eq!(spans_of(5).iter().map(|s| s.2).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(spans(&[at(1, 0, REQUEST_BYTES_MAX * 2)]), [(0, REQUEST_BYTES_MAX * 2, 1)]);
    }

    #[test]
    fn the_same_place_twice_is_one_request() {
        assert_eq!(spans(&[at(1, 0, 10), at(1, 0, 10)]), [(0, 10, 2)]);
    }
}
