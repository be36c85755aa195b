//! Where files of feedback lie, and that nobody but the router's user and group may look into them.

use std::{fs::Metadata, os::unix::fs::PermissionsExt as _, path::Path};

/// Any other user of the machine.
const OTHERS: u32 = 0o007;

/// The directory that a file lies in, or would.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// The mode of a file that others may read or write; none where they may not.
pub(super) fn open_to_others(metadata: &Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then_some(mode)
}
