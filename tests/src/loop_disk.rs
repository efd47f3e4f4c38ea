//! A disk of our own: ext4 on an image file behind a loop device, whose power can be cut.
//!
//! A cut is the kernel's own `EXT4_IOC_SHUTDOWN` without flushing its log: what was not synced is gone, as it is when the
//! plug is pulled. (What a drive would do with its own cache on top of that is the simulated disk's part.)

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::wait;

/// How long an unmount may be refused because something is still ending.
const BUSY: Duration = Duration::from_secs(10);

/// `_IOR('X', 125, __u32)` of the kernel's `fs/ext4/ext4.h`.
const EXT4_IOC_SHUTDOWN: u32 = 0x8004_587d;

/// Nothing more is written, not even the file system's own log.
const NO_LOG_FLUSH: u32 = 2;

/// An ext4 file system in an image file; unmounted when dropped.
#[derive(Debug)]
pub struct LoopDisk {
    image: PathBuf,
    place: PathBuf,
    mounted: bool,
}

/// Why this machine has no loop disks, or `None` when it has.
#[must_use]
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root for loop devices".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("no /dev/loop-control: the kernel has no loop devices".to_owned());
    }
    let try_it = || {
        let dir = tempfile::tempdir()?;
        LoopDisk::make(dir.path(), 2)?.unmount()
    };
    try_it().err().map(|error| format!("loop disks do not work here: {error:#}"))
}

impl LoopDisk {
    /// Makes a fresh file system of so many MiB in `dir` and mounts it there.
    ///
    /// # Errors
    /// When e2fsprogs are not installed or the system refuses the mount.
    pub fn make(dir: &Path, mebibytes: u64) -> anyhow::Result<Self> {
        let mut disk = Self { image: dir.join("disk.img"), place: dir.join("disk"), mounted: false };
        File::create(&disk.image)?.set_len(mebibytes << 20)?;
        std::fs::create_dir_all(&disk.place)?;
        disk.format()?;
        Ok(disk)
    }

    /// Makes a fresh file system in the place of the old one, and mounts it.
    ///
    /// # Errors
    /// As [`LoopDisk::make`].
    pub fn format(&mut self) -> anyhow::Result<()> {
        self.unmount()?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&self.image))
            .context("couldn't make a file system")?;
        self.mount()
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// Mounts it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn mount(&mut self) -> anyhow::Result<()> {
        run(Command::new("mount")
            .args(["-t", "ext4", "-o", "loop,noatime,errors=remount-ro"])
            .arg(&self.image)
            .arg(&self.place))?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it, as soon as nothing uses it any more.
    ///
    /// # Errors
    /// When something goes on using it.
    pub fn unmount(&mut self) -> anyhow::Result<()> {
        if self.mounted {
            wait::until_true(&format!("{} to be unmounted", self.place.display()), BUSY, || {
                run(Command::new("umount").arg(&self.place)).map(|()| true)
            })?;
            self.mounted = false;
        }
        Ok(())
    }

    /// The file system finds an error and is read-only from now on, also for files that are open for writing. Only a new
    /// mount makes it writable again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_up(&self) -> anyhow::Result<()> {
        let trigger = PathBuf::from("/sys/fs/ext4").join(self.device()?).join("trigger_fs_error");
        std::fs::write(&trigger, "a disk of the fault suite\n")
            .with_context(|| format!("couldn't write {}", trigger.display()))
    }

    /// Cuts its power: from now on nothing reaches the image, and what was not synced is gone. Stop all threads that
    /// write first: a sync that is under way in this moment may be answered "done" and not be.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&self) -> anyhow::Result<()> {
        let root = File::open(&self.place)?;
        shut_down(&root).with_context(|| format!("couldn't cut the power of {}", self.place.display()))
    }

    /// The loop device, as `/sys/block` calls it.
    ///
    /// # Errors
    /// When it is not mounted.
    pub fn device(&self) -> anyhow::Result<String> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let place = self.place.to_string_lossy();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&*place));
        let device = line.and_then(|line| line.split(' ').next()?.strip_prefix("/dev/"));
        Ok(device.with_context(|| format!("{place} is not mounted"))?.to_owned())
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{error:#}");
        }
    }
}

/// A command that prints nothing when it works.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("couldn't start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, said.trim());
    Ok(())
}

#[allow(unsafe_code)]
fn shut_down(root: &File) -> rustix::io::Result<()> {
    // SAFETY: the kernel's ext4 reads one u32 from the pointer for this number and writes nothing, which is what `Setter`
    // gives it; on another file system the number is unknown and refused.
    unsafe { rustix::ioctl::ioctl(root, rustix::ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_cut_takes_what_was_not_synced_and_leaves_what_was() {
        if let Some(why) = missing() {
            eprintln!("skipped: {why}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut disk = LoopDisk::make(dir.path(), 8).unwrap();
        let mut synced = File::create(disk.path().join("synced")).unwrap();
        synced.write_all(b"stays").unwrap();
        synced.sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        drop(synced);
        std::fs::write(disk.path().join("loose"), b"goes").unwrap();
        disk.cut().unwrap();
        disk.unmount().unwrap();
        disk.mount().unwrap();
        assert_eq!(std::fs::read(disk.path().join("synced")).unwrap(), b"stays");
        assert!(!disk.path().join("loose").exists());
    }
}
