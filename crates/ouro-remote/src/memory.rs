//! A storage place in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::meter::{Kind, Meter};
use crate::store::{check_range, is_torn_write};
use crate::{BoxFuture, ListedObject, RemoteError, Store, Usage, check_name, check_prefix};

/// A [`Store`] in memory: deterministic, immediate, gone with the process. For tests, the simulator, and `memory:` remotes.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    meter: Meter,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of everything in it, for assertions.
    pub fn snapshot(&self) -> BTreeMap<String, Bytes> {
        self.objects.lock().clone()
    }

    /// A store that holds what this one holds now and goes its own way from here; its counters start at zero.
    pub fn fork(&self) -> Self {
        Self { objects: Mutex::new(self.snapshot()), meter: Meter::default() }
    }

    /// Says what the clock of this place shows, in seconds since 1970: without it answers bear no date.
    pub fn set_storage_time(&self, seconds: u64) {
        self.meter.dated(seconds);
    }

    fn read(&self, name: &str, range: Option<(u64, u64)>) -> Result<Option<Bytes>, RemoteError> {
        let wanted = match range {
            Some((offset, len)) => check_range(name, offset, len)?,
            None => check_name(name).map(|()| 0)?,
        };
        self.meter.request(Kind::Get);
        let Some(bytes) = self.objects.lock().get(name).cloned() else { return Ok(None) };
        if (bytes.len() as u64) < wanted {
            return Err(RemoteError::Torn { name: name.to_owned(), wanted });
        }
        let bytes = match range {
            Some((offset, _)) => bytes.slice(offset as usize..wanted as usize),
            None => bytes,
        };
        self.meter.received(bytes.len());
        Ok(Some(bytes))
    }

    fn write(&self, name: &str, bytes: Bytes, once: bool) -> Result<(), RemoteError> {
        check_name(name)?;
        self.meter.request(Kind::Put);
        self.meter.sent(name, bytes.len());
        let mut objects = self.objects.lock();
        if once
            && let Some(found) = objects.get(name)
            && *found != bytes
            && !is_torn_write(found, &bytes)
        {
            return Err(RemoteError::Taken { name: name.to_owned() });
        }
        objects.insert(name.to_owned(), bytes);
        Ok(())
    }
}

impl Store for MemoryStore {
    fn storage_time(&self) -> Option<u64> {
        self.meter.last_date()
    }

    fn get<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move { self.read(name, None) })
    }

    fn get_range<'a>(
        &'a self,
        name: &'a str,
        offset: u64,
        len: u64,
    ) -> BoxFuture<'a, Result<Option<Bytes>, RemoteError>> {
        Box::pin(async move { self.read(name, Some((offset, len))) })
    }

    fn publish<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move { self.write(name, bytes, true) })
    }

    fn overwrite<'a>(&'a self, name: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move { self.write(name, bytes, false) })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            check_name(name)?;
            self.meter.request(Kind::Delete);
            self.objects.lock().remove(name);
            Ok(())
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<ListedObject>, RemoteError>> {
        Box::pin(async move {
            check_prefix(prefix)?;
            self.meter.request(Kind::List);
            let objects = self.objects.lock();
            let below = objects.range(prefix.to_owned()..).take_while(|(name, _)| name.starts_with(prefix));
            Ok(below.map(|(name, bytes)| ListedObject { name: name.clone(), bytes: bytes.len() as u64 }).collect())
        })
    }

    fn usage(&self) -> Usage {
        self.meter.usage()
    }
}
