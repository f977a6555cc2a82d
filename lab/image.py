# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab machine's disk, kernel and initramfs, made from the lab's root."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from demo.initramfs import make_initramfs
from lab.archive import Apt, sources
from lab.cache import find_or_make, key_of, remove
from lab.errors import LabError
from lab.root import (
    FILES,
    HERE,
    find_root,
    install_files,
    root_inputs,
    tree_inputs,
)
from lab.steps import run_quietly, step

# What the initramfs loads, in this order, each after what it depends on.
_BOOT_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
    "overlay",
)
_DISK_SIZE = "3G"


@dataclass(frozen=True, slots=True)
class Image:
    """Files of one lab machine that can be booted. All are read only."""

    directory: Path

    @property
    def disk(self) -> Path:
        """ext4, the machine's /dev/vda."""
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        """Debian's bzImage."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Mounts the disk, with memory over it, as the root."""
        return self.directory / "initrd"

    @property
    def key(self) -> Path:
        """The private key that root's authorized_keys knows."""
        return self.directory / "key"

    @property
    def known_hosts(self) -> Path:
        """The machine's host key, under the name "lab"."""
        return self.directory / "known_hosts"


def find_image() -> Image:
    """The image, built if the cache has none."""
    return Image(find_or_make("image", key_of(image_inputs()), _make_image))


def image_inputs() -> list[Path | str]:
    """What the image is made from, for key_of()."""
    own = ("image.py", "modules.txt", "initramfs.sh")
    return [
        *root_inputs(),
        *tree_inputs(FILES / "machine"),
        *(HERE / name for name in own),
    ]


def _make_image(directory: Path) -> None:
    root = find_root()
    with step("kernel"):
        kernel = directory / "kernel"
        kernel.mkdir()
        _unpack_kernel(kernel)
    with step("image"):
        copy = directory / "root"
        run_quietly(["cp", "-a", "--reflink=auto", root, copy])
        install_files(FILES / "machine", copy)
        _enable(copy, "lab-ready.service")
        _enable(copy, "systemd-networkd.service")
        _install_modules(kernel, copy)
        _make_keys(directory, copy)
        image = Image(directory)
        (kernel / "vmlinuz").rename(image.kernel)
        image.initrd.write_bytes(_initramfs(copy))
        _make_disk(copy, image.disk)
        remove(copy)
        remove(kernel)


def _unpack_kernel(directory: Path) -> None:
    """Debian's current kernel: directory/vmlinuz and directory/modules/."""
    state = directory / "apt"
    apt = Apt(state, sources("release"))
    (package, *_) = (
        name
        for name in apt.dependencies("linux-image-amd64")
        if name.startswith("linux-image-")
    )
    (deb,) = apt.download([package], directory)
    run_quietly(["dpkg-deb", "--extract", deb, directory / "x"])
    release = package.removeprefix("linux-image-")
    (directory / f"x/boot/vmlinuz-{release}").rename(directory / "vmlinuz")
    (directory / "x/lib/modules").rename(directory / "modules")
    remove(directory / "x")
    remove(state)
    deb.unlink()


def _install_modules(kernel: Path, root: Path) -> None:
    """The modules of modules.txt with their dependencies' index."""
    (source,) = (kernel / "modules").iterdir()
    target = root / "usr/lib/modules" / source.name
    wanted = (HERE / "modules.txt").read_text().splitlines()
    for index in source.glob("modules.*"):
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(index, target / index.name)
    for name in (line for line in wanted if line[:1] not in ("", "#")):
        found = source / "kernel" / name
        place = target / "kernel" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            shutil.copytree(found, place)
        elif found.exists():
            shutil.copyfile(found, place)
        else:
            raise LabError(f"modules.txt: {name}: not in {source.name}")
    run_quietly(["chroot", root, "depmod", source.name])


def _make_keys(directory: Path, root: Path) -> None:
    """A key for the host that sshd will show, and one that opens it."""
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"]
    for old in (root / "etc/ssh").glob("ssh_host_*"):
        old.unlink()
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    run_quietly([*keygen, host_key])
    image = Image(directory)
    run_quietly([*keygen, image.key])
    ssh = root / "root/.ssh"
    ssh.mkdir(mode=0o700, exist_ok=True)
    image.key.with_suffix(".pub").rename(ssh / "authorized_keys")
    public = host_key.with_suffix(".pub").read_text()
    image.known_hosts.write_text(f"lab {public}")


def _enable(root: Path, unit: str) -> None:
    """Start `unit` at boot."""
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    system = "etc" if (root / "etc/systemd/system" / unit).exists() else "lib"
    (wants / unit).unlink(missing_ok=True)
    (wants / unit).symlink_to(f"/{system}/systemd/system/{unit}")


def _initramfs(root: Path) -> bytes:
    (release,) = (root / "usr/lib/modules").iterdir()
    listing = "".join(
        run_quietly(
            ["chroot", root, "modprobe", "-S", release.name, "-D", module]
        )
        for module in _BOOT_MODULES
    )
    # Lines are "insmod PATH" or "builtin NAME"; the first mention counts.
    paths = dict.fromkeys(
        line.split()[1]
        for line in listing.splitlines()
        if line.startswith("insmod ")
    )
    modules = {
        f"root/{number:02}-{Path(path).name}": (
            root / path.removeprefix("/")
        ).read_bytes()
        for number, path in enumerate(paths)
    }
    return make_initramfs((HERE / "initramfs.sh").read_bytes(), modules)


def _make_disk(root: Path, disk: Path) -> None:
    # Without a journal or checksums: nothing is ever written to it.
    run_quietly(
        [
            *(
                "mke2fs",
                "-q",
                "-t",
                "ext4",
                "-O",
                "^has_journal,^metadata_csum",
            ),
            *("-E", "root_owner=0:0", "-m", "0", "-L", "lab"),
            *("-d", root, disk, _DISK_SIZE),
        ]
    )
