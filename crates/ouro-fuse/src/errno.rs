//! The one table from the vfs's errors to the kernel's.

use ouro_vfs::Errno;

/// What the kernel is told. One arm per error, so that a new one does not compile until it is decided here.
pub(crate) fn code(errno: Errno) -> fuser::Errno {
    use fuser::Errno as Kernel;
    match errno {
        Errno::NoEntry => Kernel::ENOENT,
        Errno::Exists => Kernel::EEXIST,
        Errno::NotDirectory => Kernel::ENOTDIR,
        Errno::IsDirectory => Kernel::EISDIR,
        Errno::NotEmpty => Kernel::ENOTEMPTY,
        Errno::Invalid => Kernel::EINVAL,
        Errno::NameTooLong => Kernel::ENAMETOOLONG,
        Errno::CrossBox => Kernel::EXDEV,
        Errno::NotPermitted => Kernel::EPERM,
        Errno::Access => Kernel::EACCES,
        Errno::NoSpace => Kernel::ENOSPC,
        Errno::NoData => Kernel::ENODATA,
        Errno::NotSupported => Kernel::EOPNOTSUPP,
        Errno::TimedOut => Kernel::ETIMEDOUT,
        Errno::Unreachable => Kernel::ENETUNREACH,
        Errno::Io => Kernel::EIO,
        Errno::Loop => Kernel::ELOOP,
        Errno::ReadOnly => Kernel::EROFS,
        Errno::Busy => Kernel::EBUSY,
        Errno::Stale => Kernel::ESTALE,
        Errno::TooBig => Kernel::E2BIG,
        Errno::Range => Kernel::ERANGE,
        Errno::Interrupted => Kernel::EINTR,
        Errno::BadHandle => Kernel::EBADF,
        Errno::FileTooBig => Kernel::EFBIG,
        Errno::TooManyLinks => Kernel::EMLINK,
        Errno::NoDevice => Kernel::ENXIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const ALL: &[Errno] = &[
        Errno::NoEntry,
        Errno::Exists,
        Errno::NotDirectory,
        Errno::IsDirectory,
        Errno::NotEmpty,
        Errno::Invalid,
        Errno::NameTooLong,
        Errno::CrossBox,
        Errno::NotPermitted,
        Errno::Access,
        Errno::NoSpace,
        Errno::NoData,
        Errno::NotSupported,
        Errno::TimedOut,
        Errno::Unreachable,
        Errno::Io,
        Errno::Loop,
        Errno::ReadOnly,
        Errno::Busy,
        Errno::Stale,
        Errno::TooBig,
        Errno::Range,
        Errno::Interrupted,
        Errno::BadHandle,
        Errno::FileTooBig,
        Errno::TooManyLinks,
        Errno::NoDevice,
    ];

    #[test]
    fn every_error_has_a_number_of_its_own() {
        let codes: BTreeSet<i32> = ALL.iter().map(|&errno| code(errno).code()).collect();
        assert_eq!(codes.len(), ALL.len());
    }

    #[test]
    fn errors_that_programs_act_on_have_the_numbers_of_linux() {
        assert_eq!(code(Errno::NoEntry).code(), 2);
        assert_eq!(code(Errno::CrossBox).code(), 18, "EXDEV makes mv copy");
        assert_eq!(code(Errno::NotSupported).code(), 95, "EOPNOTSUPP stops ls asking for xattrs");
        assert_eq!(code(Errno::NoData).code(), 61, "ENODATA: no such xattr");
        assert_eq!(code(Errno::NoDevice).code(), 6, "ENXIO ends a loop over SEEK_DATA");
    }
}
