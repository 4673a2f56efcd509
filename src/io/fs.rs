//! Names of the machine's file system: all of it blocks, so callers run it on the blocking pool.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What a directory holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    /// Size of a file, bytes.
    pub bytes: u64,
}

/// Room on the file system of a directory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    pub total_bytes: u64,
    /// What a process without privileges may still write.
    pub usable_bytes: u64,
}

/// Room on the file system that holds `path`, for whoever has no shard yet; blocks.
///
/// # Errors
/// The file system's.
pub fn disk_space(path: &Path) -> io::Result<DiskSpace> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid statvfs, which the call fills.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in a zero byte and the pointer is to a live statvfs.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(DiskSpace { total_bytes: bytes(stat.f_blocks), usable_bytes: bytes(stat.f_bavail) })
}

/// Whether `error` says that the disk, a quota or a file size limit is exhausted: the same call may
/// succeed once there is room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Suffix of a file that is not yet what its name says.
pub(super) const TEMPORARY_SUFFIX: &str = ".tmp";

/// The entries sorted by name; names that are no UTF-8 are none of ours and left out.
pub(super) fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        entries.push(DirEntry { name, is_dir: metadata.is_dir(), bytes: metadata.len() });
    }
    entries.sort();
    Ok(entries)
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Creates what is missing of `path` and makes the new names durable.
pub(super) fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent()
        && !parent.as_os_str().is_empty()
    {
        create_dir_all(parent)?;
    }
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    sync_dir(parent_of(path))
}

/// The directory that holds `path`.
pub(super) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A whole file of at most `bytes_max`.
pub(super) fn read_file(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut contents = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut contents)?;
    if contents.len() > bytes_max {
        return Err(too_large(path, bytes_max));
    }
    Ok(contents)
}

pub(super) fn too_large(path: &Path, bytes_max: usize) -> io::Error {
    let text = format!("{} is larger than {bytes_max} bytes", path.display());
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Replaces `path` whole: after a crash it has the old contents or the new.
pub(super) fn replace_file(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = temporary_of(path);
    let mut file = fs::File::create(&temporary)?;
    file.write_all(contents)?;
    file.sync_data()?;
    fs::rename(&temporary, path)?;
    sync_dir(parent_of(path))
}

/// The name under which the next contents of `path` are written.
pub(super) fn temporary_of(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY_SUFFIX);
    name.into()
}
