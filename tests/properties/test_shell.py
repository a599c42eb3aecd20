"""The simulated shell, its files, and what containers on simulated nodes do. Rules SHELL-1 ...
SHELL-12 (spec/shell.md)."""

import io
import tarfile
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from immutables import Map

from refk8s.adapters.fake import course as courses
from refk8s.adapters.fake.course import Scene, compute_command, compute_course, outputs
from refk8s.adapters.fake.files import (
    DISK_BYTES_MAX,
    FILE_BYTES_MAX,
    Disk,
    Entry,
    FileProblem,
    Files,
)
from refk8s.adapters.fake.shell.container import is_known, make_shell, not_found
from refk8s.adapters.fake.shell.interpreter import Shell
from refk8s.adapters.fake.shell.parser import parse
from refk8s.adapters.fake.shell.running import Stdin
from refk8s.adapters.fake.shell.syntax import SyntaxProblem
from refk8s.adapters.fake.shell.system_calls import Forever, Now, Pause, Read, Tick, Write
from refk8s.adapters.fake.terminal import Terminal
from refk8s.adapters.fake.world import World, make_world
from refk8s.core.context import SECOND, SeededChance
from refk8s.core.ports import (
    EXITED,
    ContainerConfig,
    CreateContainer,
    Mount,
    Probe,
    RunHook,
    RunPodSandbox,
    SandboxConfig,
    StartContainer,
    WriteVolume,
)

START = 1_700_000_000 * SECOND
MOUNTS = (
    Mount("settings", "/etc/settings", True),
    Mount("shared", "/shared"),
    Mount("settings/colour", "/one"),
)
VOLUMES = Map(
    {
        "settings": WriteVolume("uid", "settings", {"colour": b"blue\n"}),
        "shared": WriteVolume("uid", "shared"),
    }
)


def config(*command: str, **more: Any) -> ContainerConfig:
    return ContainerConfig(
        "uid",
        "default",
        "web",
        "main",
        "busybox",
        command=command,
        env=(("A", "1"),),
        mounts=MOUNTS,
        **more,
    )


def scene(*command: str, **more: Any) -> Scene:
    return Scene(config(*command, **more), "web", VOLUMES)


def shell_of(draft: courses.Draft) -> Shell:
    return make_shell(config(), "web", Files(draft, MOUNTS), not_found)


def run(script: str, stdin: bytes = b"", limit: int = 50_000) -> tuple[int, str, str, int]:
    """(exit code, stdout, stderr, seconds) of a script; -1 for one that has no end."""
    draft = courses.Draft(scene(), START)
    shell = shell_of(draft)
    shell.stdin = Stdin(stdin, True)
    program = shell.run_text(script)
    said, at, steps = {1: b"", 2: b""}, START, 0
    answer: Any = None
    while steps < limit:
        try:
            ask = program.send(answer)
        except StopIteration as stop:
            return (
                stop.value,
                said[1].decode("utf-8", "replace"),
                said[2].decode("utf-8", "replace"),
                (at - START) // SECOND,
            )
        answer = None
        assert isinstance(ask, Write | Read | Pause | Now | Tick | Forever)
        steps += ask.cost if isinstance(ask, Tick) else 0
        if isinstance(ask, Write):
            said[ask.stream] += ask.data
            steps += len(ask.data) >> 10
        elif isinstance(ask, Pause):
            at += ask.microseconds
        elif isinstance(ask, Now):
            answer = at
    return (
        -1,
        said[1].decode("utf-8", "replace"),
        said[2].decode("utf-8", "replace"),
        (at - START) // SECOND,
    )


SCRIPTS = [
    ("echo hi; echo $A", 0, "hi\n1\n"),
    ("false || echo no; ! true; echo $?", 0, "no\n1\n"),
    ("true && false; echo $?; exit 3", 3, "1\n"),
    ("echo hi > /tmp/x && cat /tmp/x >> /tmp/y; cat < /tmp/y | wc -c", 0, "3\n"),
    ("i=0; while [ $i -lt 3 ]; do echo $i; i=$((i+1)); sleep 1; done", 0, "0\n1\n2\n"),
    ('for i in a \'b c\' "$A"; do echo "<$i>"; done', 0, "<a>\n<b c>\n<1>\n"),
    ("if [ -f /nosuch ]; then echo a; elif test -d /tmp; then echo b; else echo c; fi", 0, "b\n"),
    ("case abc in x) echo x;; a*) echo A;; esac", 0, "A\n"),
    ("x='a  b'; echo $x \"$x\" ${#x} ${x%b} ${N:-def} ${A:+set}", 0, "a b a  b 4 a def set\n"),
    ("(cd /tmp; pwd; exit 4); echo $? `pwd`", 0, "/tmp\n4 /\n"),
    ("set -e; false; echo never", 1, ""),
    ("set -e; if false; then :; fi; false || true; echo here", 0, "here\n"),
    ("sh -c 'echo $0 $1; exit 7' name arg; echo $?", 0, "name arg\n7\n"),
    ("cat /etc/settings/colour /one; hostname", 0, "blue\nblue\nweb\n"),
    ("echo wrong >&2; echo right 2>/dev/null", 0, "right\n"),
    ("yes | head -n 2; printf '%s=%03d\\n' a 7", 0, "y\ny\na=007\n"),
    (
        "mkdir -p /tmp/a/b; touch /tmp/a/b/c /tmp/a/d; cd /tmp/a; ls; echo *; rm -r b; ls",
        0,
        "b\nd\nb d\nd\n",
    ),
    ("printf 'b\\na\\nb\\n' | sort | uniq -c | grep b", 0, "      2 b\n"),
    ("A=2 printenv A; echo $A; export B=3; env | grep ^B", 0, "2\n1\nB=3\n"),
    ("read a b; echo $b; read c; echo $c", 0, "two three\nfour\n"),
    ("for i in 1 2 3; do [ $i = 2 ] && continue; [ $i = 3 ] && break; echo $i; done", 0, "1\n"),
    ("sleep 1000 & wait; echo done", 0, "done\n"),
    ("trap 'exit 0' TERM; until false; do exit 5; done", 5, ""),
    (
        "if [[ -r /nosuch ]] ; then exit 0 ; else touch /shared/foo ; [[ -r /shared/foo ]]; "
        "echo $?; exit 1 ; fi",
        1,
        "0\n",
    ),
    ("[[ 1 -ne 0", 2, ""),
    (
        "expr 7 % 4; expr 2 + 3 '*' 4; expr '(' 2 + 3 ')' '*' 4; expr 3 - 3; echo $?",
        0,
        "3\n14\n20\n0\n1\n",
    ),
    ("expr a = a; expr 10 '>' 9; expr b '<' a; expr '' '|' x; expr -7 / 2", 0, "1\n1\n0\nx\n-3\n"),
    ("expr 1 / 0; echo $?; expr 1 +; echo $?; expr a + 1; echo $?; expr 1 2; expr", 2, "2\n2\n2\n"),
    ("if [ $(expr ${N:-3} % 2) -ne 0 ]; then exit 1; else exit 0; fi", 1, ""),
    ("f() { echo $1 $#; return 4; echo never; }; f a b; echo $? $#", 0, "a 2\n4 0\n"),
    ("f()\n{\n exit 6\n}\nf; echo never", 6, ""),
    ("x=1; f() (x=2); f; g() { x=3; }; echo $x; g; echo $x", 0, "1\n3\n"),
    ("f() { f; }; f", 2, ""),
    (
        "w=(red 'dark blue' $A); I=1; echo ${w[$I]} $w ${#w[@]} ${w[I+1]} ${w[9]:-none}",
        0,
        "dark blue red 3 1 none\n",
    ),
    (
        'w=(a\n \'b c\'\n); for i in "${w[@]}"; do echo "<$i>"; done; w=(x); echo ${w[*]}',
        0,
        "<a>\n<b c>\nx\n",
    ),
    ("w=(a; echo b", 2, ""),
    (
        'cat <<EOF > /tmp/x; cat /tmp/x\nhi $A "q" \\$A $(echo sub)\nEOF\necho after',
        0,
        'hi 1 "q" $A sub\nafter\n',
    ),
    ("cat <<'EOF' | wc -l\na $A\n$(\nEOF", 0, "2\n"),
    ("if true; then\n\tcat <<-EOF\n\t\tone\n\tEOF\nfi", 0, "one\n"),
    ("cat <<A; cat <<B\na\nA\nb\nB\necho c", 0, "a\nb\nc\n"),
    ("cat <<EOF\nnever ended", 2, ""),
    ('cat <<< "x $A"; read a <<<four; echo $a "$(< /one)"', 0, "x 1\nfour blue\n"),
    (
        "H=zk-12; if [[ $H =~ (.*)-([0-9]+)$ ]]; then echo ${BASH_REMATCH[1]} "
        "$((${BASH_REMATCH[2]}+1)); fi",
        0,
        "zk 13\n",
    ),
    ("[[ a =~ (b) ]]; echo $? ${BASH_REMATCH[1]}; [[ a =~ ( ]]; echo $?", 0, "1\n2\n"),
    (
        '[[ "a UN b" == *"UN"* && x != y* ]] && echo 1; [[ $N == y || -d /tmp ]] && echo 2; '
        "[[ $N ]] || echo 3",
        0,
        "1\n2\n3\n",
    ),
    ("[ abc = a* ] || [[ abc = a* ]] && [[ ! b != b ]]; echo $?", 0, "0\n"),
    ("for (( i=1; i<=3; i++ )); do [ $i = 2 ] && continue; echo $i; done", 0, "1\n3\n"),
    ("N=3; for ((i=0;i<N;i+=2))\ndo echo $i; done; echo $(( (1+2)*(3) ))", 0, "0\n2\n9\n"),
    ("for ((i=0; i<2)); do :; done", 2, ""),
    ("timeout -s 15 5 echo x; timeout 1 false; echo $?; timeout", 1, "x\n1\n"),
    (
        "printf 'a1\\nb2\\nc3\\n' > /tmp/f; sed -i -e 's/[0-9]/<&>/' -e /b/d /tmp/f; cat /tmp/f; "
        "sed -n '$p' /tmp/f",
        0,
        "a<1>\nc<3>\nc<3>\n",
    ),
    (
        "echo abc | sed -E 's/(a)(b)/\\2\\1/;s/C/d/i'; echo ab | sed 's/\\(a\\)b/\\1\\1/'; "
        "echo /a/ | sed 's|/|(|g' | sed '1s/(/\\//'",
        0,
        "bad\naa\n/a(\n",
    ),
    ("echo x | sed q; echo $?; sed s/a; echo $?; sed 's/(/x/' -r < /one", 1, "1\n1\n"),
    ("echo $(( $RANDOM / 16384 )) $(( $RANDOM / 16384 )) $(( $RANDOM / 16384 ))", 0, "1 0 1\n"),
]


@pytest.mark.parametrize(
    ("script", "code", "said"), SCRIPTS, ids=[script for script, _, _ in SCRIPTS]
)
def test_shell_2_scripts_do_what_a_shell_does(script: str, code: int, said: str) -> None:
    """SHELL-3, SHELL-5: with the programs that there are."""
    found = run(script, b"one two three\nfour\n")
    assert (found[0], found[1]) == (code, said), found


PIECES = st.sampled_from([
    "echo ", "a", " ", "$A", "${A", "}", "$(", ")", "`", "'", '"', ";", "&&", "||", "|", "&", "\n", ">", "/tmp/x", "2>&1", "<", "if ",
    "then ", "fi", "while ", "true", "do ", "done", "for i in 1 2", "case x in", "esac", "{ ", "(", "$((", "1+", "))", "\\", "*", "[ ", "]",
    "w=(", "${w[", "${#w[@]}", "!", "cat", "sleep 1", "exit 3", "read x", "yes", "seq 9", "head -1", "set -e", "sh", "-c", "ls /", "rm -r /tmp", "x=$x$x$A",
    "<<E", "\nE\n", "[[ ", " ]]", " =~ ", "for ((", "i=0;i<3;i++", "sed ", "s/a/&&/g", "<<<x",
])  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join))
@example("$(" * 50)
@example("( " * 300)
@example("${A:-" * 300 + "}" * 300)
@example("x=aaaaaaaa; while true; do x=$x$x; done")
@example("while :; do :; done")
@example("sh -c 'sh -c \"sh\"'")
@example("echo $((1/0)) $((9**9**9)) $((1<<99999))")
@example("f() { :; }")
@example("f() " * 300)
@example("f() { f; f; f; }; f")
@settings(max_examples=300)
def test_shell_2_any_text_ends_or_is_a_syntax_error_and_is_the_same_twice(script: str) -> None:
    """SHELL-1: the same answers give the same asks."""
    found = run(script, b"x\n", 300)
    assert found == run(script, b"x\n", 300)
    assert -1 <= found[0] <= 255
    try:
        parse(script)
    except SyntaxProblem:
        assert found[0] == 2


@given(st.sampled_from(["x", "nginx", "/bin/x", "apt-get"]))
def test_shell_3_an_unknown_command_is_127(name: str) -> None:
    code, out, error, _ = run(f"{name} a b; echo $?")
    assert (code, out, error) == (0, "127\n", f"sh: {name}: not found\n")
    shell = shell_of(courses.Draft(scene(), START))
    assert not is_known(shell, name) and not is_known(shell, "cd") and is_known(shell, "/bin/ls")


# --- files ----------------------------------------------------------------------------------------


PATHS = st.sampled_from(
    [
        "/tmp/a",
        "/tmp/a/b",
        "/shared/a",
        "/shared/a/b",
        "/tmp/../shared/c",
        "/etc/settings/new",
        "/nosuch/x",
        "/tmp",
    ]
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["write", "append", "remove", "directory"]),
            PATHS,
            st.binary(max_size=9),
        ),
        max_size=20,
    )
)
def test_shell_4_files_are_what_was_written_last(steps: list[tuple[str, str, bytes]]) -> None:
    """Against a dictionary; directories are those that were made."""
    from posixpath import dirname, normpath

    files = Files(courses.Draft(scene(), START), MOUNTS)
    known: dict[str, bytes | None] = {
        "/": None,
        "/tmp": None,
        "/shared": None,
        "/etc/settings": None,
        "/nosuch": b"never",
    }
    del known["/nosuch"]
    for what, path, data in steps:
        place = normpath(path)
        above, here = known.get(dirname(place), b""), known.get(place, b"-none-")
        try:
            if what in ("write", "append"):
                files.write(path, data, append=what == "append")
                assert above is None and here is not None and not place.startswith("/etc/settings/")
                known[place] = (here if what == "append" and place in known else b"") + data  # type: ignore[operator]
            elif what == "directory":
                files.make_directory(path)
                assert (
                    above is None and place not in known and not place.startswith("/etc/settings/")
                )
                known[place] = None
            else:
                files.remove(path)
                assert place in known
                known = {
                    name: value
                    for name, value in known.items()
                    if name != place and not name.startswith(place + "/")
                }
        except FileProblem as problem:
            assert problem.words
    for name, value in known.items():
        assert files.kind(name) == ("directory" if value is None else "file")
        if value is not None:
            assert files.read(name) == value


def test_shell_4_a_disk_has_a_size() -> None:
    files = Files(courses.Draft(scene(), START), MOUNTS)
    with pytest.raises(FileProblem, match="No space left"):
        files.write("/tmp/large", b"x" * (FILE_BYTES_MAX + 1))
    disk = Disk()
    with pytest.raises(FileProblem, match="No space left"):
        for number in range(DISK_BYTES_MAX // FILE_BYTES_MAX + 1):
            disk = disk.put(f"/{number}", Entry(b"x" * FILE_BYTES_MAX))


@given(
    st.sampled_from(["../../etc/passwd", "/etc/passwd", "a/../../../x", "..", "ok/file"]),
    st.booleans(),
)
def test_shell_5_nothing_is_unpacked_outside_the_directory_that_is_named(
    name: str, link: bool
) -> None:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        info = tarfile.TarInfo(name)
        if link:
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(info)
        else:
            info.size = 3
            archive.addfile(info, io.BytesIO(b"bad"))
    before = run("cat /etc/passwd; ls /")
    found = run("mkdir /tmp/in; tar -xmf - -C /tmp/in; cat /etc/passwd; ls /", into.getvalue())
    assert found[1] == before[1]
    whole = run("echo one > /tmp/f; tar cf - /tmp/f | tar xf - -C /shared; cat /shared/tmp/f")
    assert whole[:2] == (0, "one\n")


# --- containers -----------------------------------------------------------------------------------


ENDS = [
    (("sh", "-c", "sleep 3; exit 2"), False, (3 * SECOND, 2)),
    (("sh", "-c", "echo hi && false"), False, (0, 1)),
    (("sh", "-c", "while true; do date; sleep 5; done"), False, (None, 0)),
    (("sh", "-c", "nginx -g x"), False, (None, 0)),
    (("sh", "-c", "apt-get update && exit 3"), True, (SECOND, 3)),
    (("/app/migrate",), True, (SECOND, 0)),
    (("/app/serve",), False, (None, 0)),
    ((), False, (None, 0)),
    ((), True, (SECOND, 0)),
    (("cat",), False, (0, 0)),
    (("sh", "-c", "until false; do sleep 1; done"), False, (None, 0)),
    (
        ("sh", "-c", "i=0; while [ $i -lt 5 ]; do i=$((i+1)); sleep 1; done; exit 9"),
        False,
        (5 * SECOND, 9),
    ),
    (("sh", "-c", "while [ 1 -lt 2 ]; do :; done"), False, (None, 0)),
    (("sh", "-c", "syntax ( error"), False, (0, 2)),
    (("/etc/settings/colour",), True, (SECOND, 0)),
]


@pytest.mark.parametrize(
    ("command", "to_end", "wanted"),
    ENDS,
    ids=[" ".join(command) + str(to_end) for command, to_end, _ in ENDS],
)
def test_shell_6_a_container_ends_as_its_command_does(
    command: tuple[str, ...], to_end: bool, wanted: tuple[int | None, int]
) -> None:
    course = compute_course(scene(*command, runs_to_end=to_end), START)
    assert (course.takes, course.exit_code) == wanted


def test_shell_6_a_program_that_waits_for_input_runs_on() -> None:
    assert compute_course(scene("cat", stdin=True), START).takes is None
    assert compute_course(scene(stdin=True, tty=True), START).takes is None


UNSIMULATED = [
    # (script, runs to its end, its course as a container, whether it succeeds as a probe)
    ('[ "$(redis-cli ping)" = PONG ]', True, (SECOND, 0), True),
    ("echo ruok | nc localhost 2181 | grep imok", True, (SECOND, 0), True),
    ('until [ "$(curl -s http://x)" = 200 ]; do sleep 10; done', True, (SECOND, 0), True),
    ("sleep 5; x=$(nproc; awk 1) ; exit 3", True, (6 * SECOND, 0), False),
    ("until nslookup db; do sleep 1; done; exit 3", True, (SECOND, 3), False),
    ("test -f /nosuch && redis-cli ping", True, (0, 1), False),
    ('test -f /nosuch && [ "$(redis-cli ping)" = PONG ]', True, (0, 1), False),
    ('[ "$(cat /one)" = red ]', True, (0, 1), False),
    ('[ "$(redis-cli ping)" = PONG ]', False, (None, 0), True),
    ("mysql -e 'SELECT 1' > /tmp/x 2>&1; exit 4", True, (SECOND, 4), False),
    ("x=$(redis-cli ping); cat; sleep 2", True, (3 * SECOND, 0), False),
]


@pytest.mark.parametrize(
    ("script", "to_end", "wanted", "succeeds"),
    UNSIMULATED,
    ids=[f"{script}{to_end}" for script, to_end, _, _ in UNSIMULATED],
)
def test_shell_13_what_a_script_decides_with_output_that_is_not_simulated_means_nothing(
    script: str, to_end: bool, wanted: tuple[int | None, int], succeeds: bool
) -> None:
    course = compute_course(scene("sh", "-c", script, runs_to_end=to_end), START)
    assert (course.takes, course.exit_code) == wanted
    node = Node(config("sleep", "99"))
    assert node.probe("sh", "-c", script).success is succeeds


def test_shell_13_files_are_those_of_the_moment_at_which_the_script_succeeds() -> None:
    script = "echo 1 > /tmp/a; x=$(app); echo 2 > /tmp/b; sleep 9; echo 3 > /tmp/c; exit 1"
    course = compute_course(scene("sh", "-c", script, runs_to_end=True), START)
    assert {change.path for change in course.changes} == {"/tmp/a", "/tmp/b"}


class Node:
    """A simulated node with one pod, asked directly."""

    def __init__(self, *configs: ContainerConfig) -> None:
        self.world: World = make_world("node")
        self.now = START
        self.chance = SeededChance(b"shell")
        self.sandbox = self.do(
            RunPodSandbox(SandboxConfig("uid", "default", "web", hostname="web"))
        ).status
        for volume in VOLUMES.values():
            self.do(volume)
        self.ids: list[str] = []
        for each in configs:
            self.start(each)

    def do(self, operation: Any) -> Any:
        self.world, result = self.world.carry_out(operation, self.now, self.chance)
        return result

    def start(self, each: ContainerConfig) -> str:
        id: str = self.do(CreateContainer(self.sandbox.id, each)).status.id
        self.do(StartContainer("uid", id))
        self.ids.append(id)
        return id

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)
        self.world, _ = self.world.advance(self.now)

    def probe(self, *command: str, id: str = "", timeout: int = 1) -> Any:
        return self.do(Probe("uid", id or self.ids[0], "exec", timeout, command=command))

    def status(self, id: str = "") -> Any:
        return self.world.containers[id or self.ids[0]].status


@given(st.integers(1, 60), st.integers(0, 90))
def test_shell_7_a_probe_sees_what_the_program_has_written_by_then(healthy: int, at: int) -> None:
    node = Node(
        config("sh", "-c", f"touch /tmp/healthy; sleep {healthy}; rm -f /tmp/healthy; sleep 600")
    )
    node.wait(at)
    found = node.probe("cat", "/tmp/healthy")
    assert found.success == (at < healthy)
    assert (
        found.success
        or found.output == "cat: can't open '/tmp/healthy': No such file or directory\n"
    )
    assert node.probe("pg_isready", "-U", "x").success
    late = node.probe("sleep", "5")
    assert not late.success and "timed out after 1s" in late.output
    assert node.probe("sleep", "5", timeout=6).success


def test_shell_7_what_a_hook_writes_is_there() -> None:
    node = Node(config("/app/serve"))
    assert node.do(
        RunHook("uid", node.ids[0], "exec", 30, command=("sh", "-c", "echo started > /shared/hook"))
    ).success
    assert node.probe("grep", "started", "/shared/hook").success
    assert not node.do(
        RunHook("uid", node.ids[0], "exec", 30, command=("sh", "-c", "exit 3"))
    ).success


def test_shell_4_volumes_are_shared_by_a_pods_containers_and_what_lies_beside_them_is_not() -> None:
    node = Node(
        config(
            "sh",
            "-c",
            "echo seed > /shared/seed; echo own > /tmp/own; sleep 2; echo late > /shared/late",
        )
    )
    other = ContainerConfig(
        "uid", "default", "web", "other", "busybox", command=("/app/serve",), mounts=MOUNTS
    )
    second = node.start(other)
    assert node.probe("grep", "seed", "/shared/seed", id=second).success
    assert (
        not node.probe("ls", "/tmp/own", id=second).success and node.probe("ls", "/tmp/own").success
    )
    assert not node.probe("ls", "/shared/late", id=second).success
    node.wait(3)
    assert node.status().state == EXITED
    assert node.probe("ls", "/shared/late", id=second).success
    node.do(WriteVolume("uid", "settings", {"colour": b"red\n"}))
    assert node.probe("grep", "red", "/etc/settings/colour", id=second).success


@given(st.booleans(), st.integers(0, 3), st.booleans())
def test_shell_6_the_termination_message_is_what_was_written_or_the_end_of_the_log(
    writes: bool, code: int, from_log: bool
) -> None:
    line = (
        f"{'echo no disk > /dev/termination-log; ' if writes else ''}seq 1 100; "
        f"sleep 1; exit {code}"
    )
    node = Node(
        config(
            "sh",
            "-c",
            line,
            termination_message_path="/dev/termination-log",
            termination_message_from_log=from_log,
        )
    )
    node.wait(2)
    found = node.status()
    log = "".join(f"{number}\n" for number in range(21, 101)) if from_log and code else ""
    assert (found.state, found.exit_code, found.message) == (
        EXITED,
        code,
        "no disk\n" if writes else log,
    )


def test_shell_3_a_command_runs_as_the_user_that_the_container_has() -> None:
    _, said = compute_command(
        scene(user="1000:2000"), ("sh", "-c", "id -u; id -g; whoami; id"), START
    )
    assert said == b"1000\n2000\n1000\nuid=1000 gid=2000 groups=2000\n"
    assert run("id -u; whoami; id")[1] == "0\nroot\nuid=0(root) gid=0(root) groups=0(root)\n"


def test_shell_8_a_log_has_what_the_command_prints_each_line_at_its_instant() -> None:
    seen = scene("sh", "-c", "echo begin; while true; do sleep 5; echo tick; echo wrong >&2; done")
    found = []
    for at, stream, data in outputs(seen, START):
        if at > START + 12 * SECOND:
            break
        found.append(((at - START) // SECOND, stream, data))
    assert found == [
        (0, 1, b"begin\n"),
        (5, 1, b"tick\n"),
        (5, 2, b"wrong\n"),
        (10, 1, b"tick\n"),
        (10, 2, b"wrong\n"),
    ]


@pytest.mark.parametrize(
    "script", ["while true; do :; done", "yes", "while true; do echo x; done", "cat"]
)
def test_shell_8_a_log_is_bounded(script: str) -> None:
    total = sum(len(data) for _, _, data in outputs(scene("sh", "-c", script), START))
    assert total <= courses.LOG_BYTES_MAX + 4096


@given(st.text("ab \r\x7f\x03\x04", max_size=30))
def test_shell_9_a_terminal_shows_what_is_typed_and_gives_whole_lines(typed: str) -> None:
    whole, pieces = Terminal(), Terminal()
    lines, interrupted, ended = whole.typed(typed.encode())
    apart: list[bytes] = []
    for character in typed:
        apart += pieces.typed(character.encode())[0]
    assert apart == lines and pieces.take_echo() == whole.take_echo()
    assert len(lines) == typed.count("\r") and all(line.endswith(b"\n") for line in lines)
    assert interrupted == ("\x03" in typed) and (not ended or "\x04" in typed)
    assert Terminal.shown(b"a\nb\r\n") == b"a\r\nb\r\n"


def test_shell_1_a_probe_that_reads_or_loops_has_an_end() -> None:
    for script in (
        "cat", "while :; do :; done", "yes", "x=aaaaaaaa; while true; do x=$x$x; done", "seq 100000 | sort | wc -l",
        "for i in $(seq 3000); do seq 100000 | sort > /dev/null; done", "seq 90000 > /tmp/x; for i in $(seq 3000); do md5sum /tmp/x; done",
    ):  # fmt: skip
        course, said = compute_command(scene(), ("sh", "-c", script), START)
        assert course.takes is None or course.takes == 0
        assert len(said) <= courses.LOG_BYTES_MAX + (1 << 21)


STOPPED = [
    (
        "_term(){\n sleep 5\n exit 143\n}\ntrap _term SIGTERM\nwhile true; do\n sleep 1\ndone",
        (5, 143),
    ),
    ("trap 'exit 7' TERM; sleep 1000", (0, 7)),
    ("trap 'echo bye' TERM INT; sleep 1000", (None, 0)),
    ("sleep 20; trap 'exit 7' TERM; sleep 1000", None),
    ("trap 'exit 7' INT; sleep 1000", None),
    ("trap '(' TERM; sleep 1000", (None, 0)),
    ("sleep 1000", None),
]


@pytest.mark.parametrize(("script", "end"), STOPPED)
def test_shell_12_a_trap_of_sigterm_is_run_at_the_stop(script: str, end: Any) -> None:
    """Ten seconds after the start."""
    scene = Scene(config("sh", "-c", script), "web", VOLUMES)
    found = courses.compute_stop(scene, START, START + 10 * SECOND)
    if end is None:
        assert found is None
    else:
        takes = None if end[0] is None else end[0] * SECOND
        assert found is not None and (found.takes, found.exit_code) == (takes, end[1])
