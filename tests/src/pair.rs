//! Several devices of one box.

use crate::device::Device;
use crate::place::Place;
use crate::survey::{assert_same, survey, without_directory_times};

/// Two devices of one box, and the place where it is stored.
///
/// The devices come first: they end before their storage does.
pub struct Pair {
    /// The device that made the box.
    pub a: Device,
    /// The device that joins it.
    pub b: Device,
    /// The storage.
    pub place: Place,
}

impl Pair {
    /// Makes a box and mounts it on the first device; the second knows nothing of it until [`Pair::join`]. `None` where the user asked to leave
    /// these tests out.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn over(place: impl FnOnce() -> Place) -> Option<Pair> {
        if !Device::can_mount() {
            return None;
        }
        let pair = Pair { a: Device::new("anna"), b: Device::new("berta"), place: place() };
        pair.a.init(&pair.place);
        pair.a.mount();
        Some(pair)
    }

    /// Puts all that the first device has on the remote, and mounts the box on the second.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn join(&self) {
        self.a.wait();
        self.b.join(&self.place);
        self.b.mount();
    }

    /// Lets both devices work while the remote answers neither, then puts what they did on it.
    ///
    /// # Panics
    ///
    /// If the storage is a plain folder, or they cannot reach it afterwards.
    pub fn apart(&self, work: impl FnOnce(&Device, &Device)) {
        self.place.server().stop();
        work(&self.a, &self.b);
        self.place.server().cont();
        self.a.wait();
        self.b.wait();
    }

    /// Compares what both show.
    ///
    /// # Panics
    ///
    /// As [`assert_devices_show_the_same`].
    pub fn assert_same(&self, what: &str) {
        assert_devices_show_the_same(what, &[&self.a, &self.b]);
    }
}

/// Compares all that mounted devices show, apart from the times of directories, with the first.
///
/// # Panics
///
/// If something differs or cannot be read.
pub fn assert_devices_show_the_same(what: &str, devices: &[&Device]) {
    let mut looks = devices.iter().map(|device| without_directory_times(survey(&device.mountpoint())));
    let Some(first) = looks.next() else { return };
    looks.for_each(|look| assert_same(what, &first, &look));
}
