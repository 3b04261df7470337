#!/usr/bin/env python3
"""What clnorm run does to the files that it is told to read and to write.

    test_cli_files.py [PROGRAM]     as cli_fixture.py says
"""
import os
import pathlib
import pty
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import unittest

from cli_fixture import PROGRAM, CliTest, npy_bytes, parse_npy, read_npy

SHAPE = (2, 3, 4, 5)
NOBODY = 65534


def as_user(test):
    """Rights of files hold for users only: options that make root one, who may not reach the build folder."""
    if os.geteuid() != 0:
        return {}
    folder = tempfile.TemporaryDirectory()
    test.addCleanup(folder.cleanup)
    os.chmod(folder.name, 0o755)
    return {"user": NOBODY, "group": NOBODY, "extra_groups": [], "executable": shutil.copy(PROGRAM, folder.name)}


def limit_files(size):
    """For preexec_fn: writing more than this fails, as on a full disk."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


class FilesTest(CliTest):
    def setUp(self):
        super().setUp()
        os.chmod(self.folder.name, 0o777)
        self.x, _ = self.write("x.npy", SHAPE)
        self.wanted = self.result_of(self.x)

    def files(self, folder=""):
        return sorted(os.listdir(self.path(folder)))

    def run_on_cpu(self, *arguments, **options):
        return self.start("run", *arguments, "--device", "cpu", **options)

    def result_of(self, x):
        self.clnorm("run", x, "-o", self.path("wanted.npy"), "--device", "cpu")
        found = read_npy(self.path("wanted.npy"))
        os.remove(self.path("wanted.npy"))
        return found

    def good(self, *arguments, **options):
        done = self.run_on_cpu(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def bad(self, *arguments, words, **options):
        """Refused with one line that has all the words, and nothing is left behind."""
        before = self.files()
        done = self.run_on_cpu(*arguments, **options)
        text = done.stderr.decode()
        self.assertEqual((done.returncode, text.count("\n")), (2, 1), text)
        for word in words:
            self.assertIn(word, text)
        self.assertEqual(self.files(), before)

    def old(self, name, mode=0o644):
        """A file with content of its own."""
        pathlib.Path(self.path(name)).write_bytes(b"old")
        os.chmod(self.path(name), mode)
        return self.path(name)

    def content(self, name):
        return pathlib.Path(self.path(name)).read_bytes()


class TestPlaces(FilesTest):
    def test_a_new_file(self):
        os.umask(0o027)
        self.addCleanup(os.umask, 0o022)
        self.good(self.x, "-o", self.path("y.npy"))
        self.assertEqual(read_npy(self.path("y.npy")), self.wanted)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("y.npy")).st_mode), 0o640)
        self.assertEqual(self.files(), ["x.npy", "y.npy"])
        self.good("x.npy", "-o", "z.npy", cwd=self.folder.name)
        self.assertEqual(read_npy(self.path("z.npy")), self.wanted)

    def test_an_old_file_keeps_its_rights(self):
        self.old("y.npy", 0o604)
        self.good(self.x, "-o", self.path("y.npy"))
        self.assertEqual(read_npy(self.path("y.npy")), self.wanted)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("y.npy")).st_mode), 0o604)

    def test_links_are_followed(self):
        os.mkdir(self.path("folder"))
        for target, link in [("folder/new.npy", "a.npy"), ("a.npy", "b.npy"),
                             (self.path("folder/c.npy"), "folder/link.npy")]:
            os.symlink(target, self.path(link))
        self.good(self.x, "-o", self.path("b.npy"))
        self.good(self.x, "-o", self.path("folder/link.npy"))
        self.assertEqual(self.files("folder"), ["c.npy", "link.npy", "new.npy"])
        self.good(self.x, "-o", self.path("b.npy"))
        for name in ["a.npy", "b.npy", "folder/link.npy"]:
            self.assertTrue(os.path.islink(self.path(name)))
            self.assertEqual(read_npy(self.path(name)), self.wanted)
        os.symlink("none/y.npy", self.path("broken.npy"))
        self.bad(self.x, "-o", self.path("broken.npy"), words=["broken.npy", "No such file"])
        os.symlink("circle.npy", self.path("circle.npy"))
        self.bad(self.x, "-o", self.path("circle.npy"), words=["circle.npy", "links"])

    def test_hard_links_stay_one_file(self):
        self.old("y.npy")
        os.link(self.path("y.npy"), self.path("z.npy"))
        self.good(self.x, "-o", self.path("y.npy"))
        self.assertEqual(os.stat(self.path("y.npy")).st_ino, os.stat(self.path("z.npy")).st_ino)
        self.assertEqual(read_npy(self.path("z.npy")), self.wanted)

    def test_a_shorter_content_in_place(self):
        pathlib.Path(self.path("y.npy")).write_bytes(b"old" * 5000)
        os.link(self.path("y.npy"), self.path("z.npy"))
        self.good(self.x, "-o", self.path("y.npy"))
        self.assertEqual(read_npy(self.path("y.npy")), self.wanted)

    def test_long_names(self):
        for size in [240, 248, 254, 255]:
            name = "n" * size
            for _ in range(2):  # new, then over the old one
                self.good(self.x, "-o", self.path(name))
                self.assertEqual(read_npy(self.path(name)), self.wanted)
        self.bad(self.x, "-o", self.path("n" * 256), words=["File name too long"])

    def test_rights(self):
        read_only = self.old("r.npy", 0o444)
        os.mkdir(self.path("closed"))
        self.old("closed/y.npy", 0o666)
        os.chmod(self.path("closed"), 0o555)
        if os.geteuid() == 0:
            os.chown(read_only, NOBODY, NOBODY)
        self.bad(self.x, "-o", read_only, words=["r.npy", "Permission denied"], **as_user(self))
        self.assertEqual(self.content("r.npy"), b"old")
        self.bad(self.x, "-o", self.path("closed/new.npy"), words=["Permission denied"], **as_user(self))
        inode = os.stat(self.path("closed/y.npy")).st_ino
        self.good(self.x, "-o", self.path("closed/y.npy"), **as_user(self))
        self.assertEqual(read_npy(self.path("closed/y.npy")), self.wanted)
        self.assertEqual(os.stat(self.path("closed/y.npy")).st_ino, inode)
        self.assertEqual(self.files("closed"), ["y.npy"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can make a file of somebody else")
    def test_the_owner_stays(self):
        os.chown(self.old("y.npy", 0o666), 12345, 54321)
        for options in [{}, as_user(self)]:
            self.good(self.x, "-o", self.path("y.npy"), **options)
            info = os.stat(self.path("y.npy"))
            self.assertEqual((info.st_uid, info.st_gid), (12345, 54321))
            self.assertEqual(read_npy(self.path("y.npy")), self.wanted)

    def test_places_that_cannot_be(self):
        for name, word in [("none/y.npy", "No such file"), ("x.npy/y.npy", "Not a directory"), (".", "folder"),
                           ("new.npy/", "cannot write")]:
            self.bad(self.x, "-o", self.path(name), words=["--output", name, word])
            self.bad(self.x, "--save-invstd", self.path(name), words=["--save-invstd", word])
        self.bad(self.x, "-o", "", words=["-o is ''", "a name"])

    def test_refused_before_the_work(self):
        """Not even the input, a pipe that nobody writes to, is waited for."""
        os.mkfifo(self.path("never.npy"))
        self.bad(self.path("never.npy"), "-o", self.path("none/y.npy"), words=["No such file"], timeout=60)
        self.bad(self.path("never.npy"), "-o", self.path("y.npy"), "--save-mean", self.path("y.npy"),
                 words=["same file"], timeout=60)


class TestSameFile(FilesTest):
    def both(self, first, second):
        self.bad(self.x, "-o", first, "--save-mean", second, words=["--output", "--save-mean", "same file"],
                 cwd=self.folder.name)

    def test_two_outputs(self):
        self.old("y.npy")
        os.link(self.path("y.npy"), self.path("hard.npy"))
        os.symlink("y.npy", self.path("soft.npy"))
        os.symlink("new.npy", self.path("dangling.npy"))
        os.symlink(".", self.path("here"))
        for first, second in [("y.npy", "y.npy"), ("y.npy", "./y.npy"), ("y.npy", self.path("y.npy")),
                              ("y.npy", "hard.npy"), ("y.npy", "soft.npy"), ("hard.npy", "here/soft.npy"),
                              ("new.npy", "new.npy"), ("new.npy", ".//new.npy"), ("new.npy", "dangling.npy"),
                              ("here/dangling.npy", self.path("new.npy")), ("-", "-"), ("-", "/dev/stdout")]:
            self.both(first, second)
        self.assertEqual(self.content("y.npy"), b"old")
        self.good(self.x, "-o", "new.npy", "--save-mean", "here/other.npy", cwd=self.folder.name)
        self.good(self.x, "-o", "/dev/null", "--save-mean", "/dev/null")

    def test_an_input(self):
        before = self.content("x.npy")
        os.link(self.x, self.path("hard.npy"))
        os.symlink("x.npy", self.path("soft.npy"))
        weight, _ = self.write("w.npy", (3,))
        for output in ["x.npy", "hard.npy", "soft.npy"]:
            self.bad(self.x, "-o", self.path(output), words=["--output", output, "same file", "which is read"])
        self.bad(self.x, "--weight", weight, "--save-mean", weight, words=["--weight", "same file"])
        with open(self.x, "rb") as file:
            self.bad("-", "-o", self.x, words=["same file"], stdin=file)
        self.assertEqual(self.content("x.npy"), before)

    def test_running_statistics_are_updated_in_their_files(self):
        mean, _ = self.write("m.npy", (3,), [0, 0, 0])
        var, _ = self.write("v.npy", (3,), [1, 2, 3])
        options = [self.x, "--mode", "train", "--running-mean", mean, "--running-var", var]
        self.bad(*options, "--save-running-mean", var, words=["same file"])
        self.good(*options, "--save-running-mean", mean, "--save-running-var", var)
        self.assertNotIn(0, read_npy(mean)[1])
        self.assertNotEqual(read_npy(var)[1], [1, 2, 3])


class TestStreams(FilesTest):
    def piped(self, *arguments, data=None, **options):
        """The array that comes through standard output, and what is printed beside it."""
        done = self.good(*arguments, input=data, **options)
        self.assertEqual(parse_npy(done.stdout), self.wanted)
        return done.stderr.decode()

    def test_standard_streams(self):
        x = self.content("x.npy")
        self.assertIn("standard output", self.piped("-", "-o", "-", data=x))
        self.assertIn("device", self.piped("/dev/stdin", "--output=/dev/stdout", data=x))
        self.assertIn("equal: 1 case", self.piped(self.x, "-o", "/dev/fd/1", "--verify"))
        self.assertIn('{"device"', self.piped(self.x, "-o", "-", "--json"))
        self.good("-", "--weight", self.write("w.npy", (3,))[0], input=x)
        self.bad("-", "--bias", "-", words=["standard input", "once"], input=x)
        self.bad("-", words=["standard input", "truncated"], input=x[:-1])
        self.bad("-", words=["standard input", "after the data"], input=x + b"1")
        self.bad("-", words=["standard input", "too short"], stdin=subprocess.DEVNULL)

    def test_standard_output_is_a_file(self):
        for path in ["-", "/dev/stdout", self.path("y.npy")]:
            with open(self.path("y.npy"), "wb") as file:
                self.good(self.x, "-o", path, stdout=file)
            self.assertEqual(read_npy(self.path("y.npy")), self.wanted)
        with open(self.path("both"), "wb") as file:
            file.write(b"before")
            file.flush()
            self.good(self.x, "-o", "-", stdout=file)
        self.assertEqual(parse_npy(self.content("both")[6:]), self.wanted)

    def test_closed_streams(self):
        for stream in [0, 1, 2]:
            self.run_on_cpu(self.x, "-o", self.path("y.npy"), preexec_fn=lambda s=stream: os.close(s))
            self.assertEqual(read_npy(self.path("y.npy")), self.wanted)
        self.bad(self.x, "-o", "-", words=["standard output is closed"], preexec_fn=lambda: os.close(1))
        self.bad("-", words=["standard input", "cannot be read"], preexec_fn=lambda: os.close(0))

    def test_a_terminal(self):
        ends = pty.openpty()
        self.bad(self.x, "-o", "-", words=["standard output", "terminal"], stdout=ends[1])
        self.bad(self.x, "-o", "/dev/stdout", words=["terminal"], stdout=ends[1])
        self.bad("-", words=["standard input", "terminal"], stdin=ends[1])
        for end in ends:
            os.close(end)

    def test_named_pipes(self):
        os.mkfifo(self.path("in.npy"))
        os.mkfifo(self.path("out.npy"))
        found = []
        ends = [threading.Thread(target=pathlib.Path(self.path("in.npy")).write_bytes, args=[self.content("x.npy")]),
                threading.Thread(target=lambda: found.append(self.content("out.npy")))]
        for end in ends:
            end.start()
        self.good(self.path("in.npy"), "-o", self.path("out.npy"), timeout=60)
        for end in ends:
            end.join()
        self.assertEqual(parse_npy(found[0]), self.wanted)
        self.assertEqual(self.files(), ["in.npy", "out.npy", "x.npy"])
        self.bad(self.path("in.npy"), "-o", self.path("in.npy"), words=["same file"])

    def test_a_reader_that_goes_away(self):
        """An error like others: the other files stay as they are, and no temporary one is left."""
        self.old("m.npy")
        large, _ = self.write("large.npy", (1, 1, 512, 512), [0.0] * 512 * 512)
        ends = os.pipe()
        os.close(ends[0])
        self.bad(large, "-o", "-", "--save-mean", self.path("m.npy"), words=["Broken pipe"], stdout=ends[1])
        os.close(ends[1])
        self.assertEqual(self.content("m.npy"), b"old")


class TestFullDisk(FilesTest):
    FULL = "No space left"

    def test_a_full_device(self):
        self.old("m.npy")
        with open("/dev/full", "wb") as full:
            for path, options in [("/dev/full", {}), ("-", {"stdout": full})]:
                self.bad(self.x, "-o", path, "--save-mean", self.path("m.npy"), words=["--output", self.FULL],
                         **options)
        self.assertEqual(self.content("m.npy"), b"old")
        self.bad("/dev/full", words=["not a .npy file"])

    def test_files_stay_as_they_were(self):
        """Beside the old one, in place, and new: there is room for 200 bytes."""
        self.old("y.npy")
        self.old("linked.npy")
        os.link(self.path("linked.npy"), self.path("other.npy"))
        for name in ["y.npy", "linked.npy", "new.npy"]:
            self.bad(self.x, "-o", self.path(name), words=["--output", name, "File too large"],
                     preexec_fn=limit_files(200))
        for name in ["y.npy", "linked.npy", "other.npy"]:
            self.assertEqual(self.content(name), b"old")

    def test_all_files_or_none(self):
        """The second file of 608 bytes does not fit; the first, of 140, does."""
        self.old("m.npy")
        self.bad(self.x, "--save-mean", self.path("m.npy"), "-o", self.path("y.npy"), words=["y.npy", "too large"],
                 preexec_fn=limit_files(200))
        self.assertEqual(self.content("m.npy"), b"old")
        os.link(self.path("m.npy"), self.path("other.npy"))
        self.bad(self.x, "--save-mean", self.path("m.npy"), "-o", "/dev/full", words=[self.FULL])
        self.assertEqual(self.content("m.npy"), b"old")


class TestInputs(FilesTest):
    def test_an_empty_tensor_has_no_statistics(self):
        path, _ = self.write("empty.npy", (0, 3, 2, 2))
        self.bad(path, "--save-mean", self.path("m.npy"), words=["--save-mean", "empty.npy is empty"])

    def test_types_are_named_where_they_are_wrong(self):
        header = npy_bytes(SHAPE, []).replace(b"<f4", b"<i4") + b"1234" * 120
        pathlib.Path(self.path("i.npy")).write_bytes(header)
        self.bad(self.path("i.npy"), words=["i.npy", "int32", "but must be float16, float32 or float64"])
        self.bad(self.x, "--bias", self.path("i.npy"), words=["--bias", "int32", "must be float32 or float64"])

    def test_a_parameter_is_rounded_to_float32_or_refused(self):
        for value, words in [(1e300, "value 1e+300 at index 1 does not fit float32"), (1e30, None)]:
            wide, _ = self.write("w.npy", (3,), [0.0, value, 0.0], descr=">f8")
            if words:
                self.bad(self.x, "--bias", wide, words=["--bias", words])
            else:
                self.good(self.x, "--bias", wide)


if __name__ == "__main__":
    unittest.main(verbosity=2)
