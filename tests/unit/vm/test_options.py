# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `xenner`."""

import uuid
from pathlib import Path

import pytest

from xenner.errors import ConfigError
from xennerd.vm.options import Help, Options, parse_memory, parse_options


def parse(*arguments: str) -> Options:
    return parse_options(["-kernel", "vmlinuz", *arguments], version="9.9")


def test_only_the_kernel_is_needed() -> None:
    options = parse()
    assert options.kernel == Path("vmlinuz")
    assert (options.initrd, options.append, options.domid) == (None, "", None)
    assert options.memory_bytes == 256 << 20
    assert options.nr_vcpus == 1
    assert (options.serial, options.monitor) == ("stdio", "none")
    assert options.is_reboot_allowed
    assert not options.is_stopped


def test_everything_at_once() -> None:
    handle = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    options = parse(
        *("-initrd", "ird", "-append", "root=/dev/x a=b", "-m", "1G"),
        *("-smp", "1", "-name", "web", "-uuid", str(handle), "-domid", "7"),
        *("-serial", "null", "-monitor", "unix:/m", "-S", "-no-reboot"),
        *("-daemonize", "-pidfile", "p", "-d", "stats,exits", "-nographic"),
        *("-runtime-dir", "/r"),
    )
    assert options == Options(
        kernel=Path("vmlinuz"),
        initrd=Path("ird"),
        append="root=/dev/x a=b",
        memory_bytes=1 << 30,
        nr_vcpus=1,
        name="web",
        handle=handle,
        domid=7,
        serial="null",
        monitor="unix:/m",
        is_stopped=True,
        is_reboot_allowed=False,
        is_daemon=True,
        pidfile=Path("p"),
        topics=frozenset({"stats", "exits"}),
        runtime_dir=Path("/r"),
    )


def test_a_name_is_text() -> None:
    assert parse("-name", "größe 1").name == "größe 1"
    for name in ("a\nb", "a\udcff", "\x1b[2J"):
        with pytest.raises(ConfigError, match="not a printable text") as got:
            parse("-name", name)
        assert str(got.value).isprintable()


def test_two_dashes_and_an_equals_sign_are_the_same() -> None:
    options = parse("--append", "x", "--name=web", "--no-reboot")
    assert (options.append, options.name) == ("x", "web")
    assert not options.is_reboot_allowed


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse("-append", "console=hvc0").append == "console=hvc0"
    assert parse("--append=console=hvc0").append == "console=hvc0"


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("64", 64 << 20),
        ("64M", 64 << 20),
        ("64MB", 64 << 20),
        ("2g", 2 << 30),
        ("2048k", 2 << 20),
    ],
)
def test_memory_is_in_mib_unless_it_says_otherwise(
    text: str, size_bytes: int
) -> None:
    assert parse_memory(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "x", "-5", "0", "1.5G", "1T", "7k", "999999G", "٣"]
)
def test_memory_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ConfigError, match="-m"):
        parse_memory(text)


@pytest.mark.parametrize("text", ["64,maxmem=1G", "size=64M,maxmem=1024"])
def test_memory_to_grow_to(text: str) -> None:
    options = parse_options(["-kernel", "k", "-m", text], version="")
    assert options.memory_bytes == 64 << 20
    assert options.max_memory_bytes == 1 << 30


@pytest.mark.parametrize("text", ["64,maxmem=32", "64,slots=2", "64,maxmem="])
def test_what_no_memory_can_grow_to(text: str) -> None:
    with pytest.raises(ConfigError, match="-m"):
        parse_options(["-kernel", "k", "-m", text], version="")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-frobnicate"], "-frobnicate: no such option"),
        (["stray"], "stray: not an option"),
        (["-append"], "-append: needs a value"),
        (["-smp", "33"], "-smp 33: must be 1 to 32"),
        (["-smp", "many"], "-smp many: not a number"),
        (["-smp", "0"], "-smp 0: must be 1 to 32"),
        (["-domid", "0"], "-domid 0: must be 1 to"),
        (["-domid", "-1"], "-domid -1: not a number"),
        (["-uuid", "zz"], "-uuid zz: not a UUID"),
        (["-d", "stats,nonsense"], "no topic 'nonsense'"),
        (["-monitor", "tcp:1"], "-monitor tcp:1"),
        (["-monitor", "stdio"], "standard input is the console's"),
        (["-daemonize"], "cannot go to the background"),
    ],
)
def test_refusals_name_the_option(arguments: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(*arguments)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "what"),
    [
        ("-blockdev", "such disks"),
        ("-netdev", "such interfaces"),
        ("-vnc", "graphics"),
        ("-display", "graphics"),
        ("-incoming", "saving and restoring"),
        ("--device", "devices"),
    ],
)
def test_what_later_versions_have_is_refused_by_name(
    option: str, what: str
) -> None:
    with pytest.raises(ConfigError, match=what) as error:
        parse(option, "value")
    assert str(error.value).startswith(f"-{option.lstrip('-')}:")


def test_no_kernel() -> None:
    with pytest.raises(ConfigError, match="-kernel"):
        parse_options([], version="9.9")


def test_help_and_version_win() -> None:
    with pytest.raises(Help, match="usage: xenner"):
        parse_options(["-help", "-frobnicate"], version="9.9")
    with pytest.raises(Help, match=r"xenner 9\.9"):
        parse_options(["-version"], version="9.9")


def test_xenconsoled_hears_of_guests_by_xenstore() -> None:
    paths = ("-evtchnd", "/e", "-xenstore", "/x")
    options = parse("-serial", "xenconsoled", *paths)
    assert options.serial == "xenconsoled"
    with pytest.raises(ConfigError, match="by xenstore"):
        parse("-serial", "xenconsoled")
    with pytest.raises(ConfigError, match="-evtchnd only"):
        parse("-xenstore", "/x")


def test_disks_and_interfaces_in_qemus_words_and_in_xls() -> None:
    options = parse(
        *("-hda", "/a,b.img", "-cdrom", "/c.iso", "-hdd", "/d"),
        *("-drive", "file=/q,,x.qcow2,format=qcow2,readonly=on"),
        *("-disk", "/dev/vg/lv,raw,xvdq,w,iops-total=10"),
        *("-nic", "bridge,br=xenbr0,mac=00:16:3e:01:02:03"),
        *("-nic", "none", "-nic", "bridge=br1,rate=1Mb/s"),
    )
    assert [
        (disk.vdev, disk.target, disk.format, disk.is_writable, disk.is_cdrom)
        for disk in options.disks
    ] == [
        ("xvda", "/a,b.img", "raw", True, False),
        ("xvdc", "/c.iso", "raw", False, True),
        ("xvdd", "/d", "raw", True, False),
        ("xvdb", "/q,x.qcow2", "qcow2", False, False),
        ("xvdq", "/dev/vg/lv", "raw", True, False),
    ]
    assert [(vif.devid, vif.bridge) for vif in options.vifs] == [
        (0, "xenbr0"),
        (1, "br1"),
    ]
    assert options.is_standalone
    # Where there is a store, its backends serve them.
    outside = ("-evtchnd", "/e", "-xenstore", "/x")
    assert not parse("-hda", "/a", *outside).is_standalone
    assert parse("-xenstore", "private").is_standalone
    assert not parse().is_standalone


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("-hda", "/a", "-disk", "/b,raw,xvda,w"), "xvda is there already"),
        (("-hda", ""), "-hda"),
        (("-drive", "format=raw"), "file=PATH is missing"),
        (("-drive", "file=/a,index=16"), "index 16: 0 to 15"),
        (("-drive", "file=/a,index=x"), "index=x: not a number"),
        (("-drive", "file=/a,readonly=maybe"), "on or off"),
        (("-drive", "file=/a,cache=none"), "cache: not known"),
        (("-drive", "file=/a,if=virtio"), "Xen's disks only"),
        (("-drive", "file=/a,format=vmdk"), "vmdk"),
        (("-disk", "/a"), "-disk /a"),
        (("-nic", "user"), "in a bridge or routed"),
        (("-nic", "bridge,foo"), "as name=value"),
        (("-hda", "/a", "-evtchnd", "/e"), "need -xenstore too"),
        (("-xenstore", "private", "-evtchnd", "/e"), "an evtchnd of its own"),
    ],
)
def test_devices_that_make_no_sense(words: tuple[str, ...], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse(*words)
