#!/usr/bin/env python3
"""The shared library, driven through the whole of clnorm.h by Python's ctypes alone, on the CPU path.

    test_ctypes.py HEADER LIBRARY
"""
import array
import ctypes
import itertools
import math
import pathlib
import re
import sys
import tempfile
import unittest

from header import Header, Library

C = None  # constants of the header
LIB = None
HEADER = None
UNIT = 2.0 ** -24
UNKNOWN = 24  # bytes of a newer caller's members
# Structures that begin with their size, and what their init function takes beside it.
GROWING = {"clnorm_tuning": (), "clnorm_context_options": (), "clnorm_problem": (), "clnorm_operand": (),
           "clnorm_run_options": (), "clnorm_batchnorm_options": (3,), "clnorm_difference": ()}
DIMS = (2, 3, 4, 5)
NAMES = ("CLNORM_X", "CLNORM_Y", "CLNORM_WEIGHT", "CLNORM_BIAS", "CLNORM_RUNNING_MEAN", "CLNORM_RUNNING_VAR",
         "CLNORM_SAVED_MEAN", "CLNORM_SAVED_MEAN_LOW", "CLNORM_SAVED_INVSTD")


def structure(name, size=None):
    """An initialized structure of `size` bytes, its own size if None, with 64 bytes of 0xAA behind it."""
    kind = HEADER.structures[name]
    own = ctypes.sizeof(kind)
    size = own if size is None else size
    raw = (ctypes.c_ubyte * (max(size, own) + 64))(*[0xAA] * (max(size, own) + 64))
    result = kind.from_buffer(raw)
    getattr(LIB, name + "_init")(ctypes.byref(result), size, *GROWING[name])
    return result, raw


def new(name):
    return structure(name)[0]


def tensor(layout="nchw", dims=DIMS, dtype="CLNORM_F32", *more):
    result = HEADER.structures["clnorm_tensor"]()
    getattr(LIB, "clnorm_tensor_" + layout)(ctypes.byref(result), C[dtype], len(dims),
                                            (ctypes.c_int64 * len(dims))(*dims), *more)
    return result


def floats(values):
    return (ctypes.c_float * len(values))(*values)


def host(values):
    return LIB.clnorm_host_memory(ctypes.addressof(values), ctypes.sizeof(values))


def bindings(operands):
    """operands: name of a role -> array of floats in host memory."""
    kind = HEADER.structures["clnorm_binding"] * len(operands)
    result = kind(*[LIB.clnorm_bind(C[name], host(values)) for name, values in operands.items()])
    result.operands = operands  # which are to live as long
    return result


def indices(dims=DIMS):
    return itertools.product(*map(range, dims))


def index_of(t, at):
    """Where the element of a logical index lies, as clnorm.h says."""
    block = t.channel_block
    return (at[1] // block * t.strides[1] + at[1] % block +
            sum(at[i] * t.strides[i] for i in range(t.rank) if i != 1))


def values_of(count, scale, shift):
    return floats([shift + scale * math.sin(12.9898 * i + scale) for i in range(count)])


def place(t, dense):
    """Dense NCHW values in the layout of a tensor."""
    memory = floats([math.nan] * (LIB.clnorm_tensor_bytes(ctypes.byref(t)) // 4))
    for value, at in zip(dense, indices()):
        memory[index_of(t, at)] = value
    return memory


class Case(unittest.TestCase):
    def setUp(self):
        self.context = self.open()
        self.addCleanup(lambda: LIB.clnorm_context_destroy(self.context))

    def open(self, device=b"cpu", options=None, expected="CLNORM_OK"):
        context = ctypes.c_void_p()
        message = HEADER.structures["clnorm_message"]()
        status = LIB.clnorm_context_create(device, options, ctypes.byref(context), ctypes.byref(message))
        self.assertEqual(status, C[expected], message.text)
        self.message = message.text.decode()
        return context

    def ok(self, status):
        self.assertEqual(status, C["CLNORM_OK"], LIB.clnorm_last_error(self.context))

    def plan(self, problem):
        plan = ctypes.c_void_p()
        self.ok(LIB.clnorm_plan_create(self.context, ctypes.byref(problem), ctypes.byref(plan)))
        self.addCleanup(LIB.clnorm_plan_destroy, plan)
        return plan

    def module(self):
        bn = ctypes.c_void_p()
        self.ok(LIB.clnorm_batchnorm_create(self.context, ctypes.byref(new("clnorm_batchnorm_options")),
                                            ctypes.byref(bn)))
        self.addCleanup(LIB.clnorm_batchnorm_destroy, bn)
        return bn

    def near(self, actual, expected, bound):
        self.assertLessEqual(abs(actual - expected), bound, f"{actual} is not {expected}")


def statistics(x):
    """(mean, biased variance) of each channel of dense NCHW values of DIMS."""
    channels = [[] for _ in range(DIMS[1])]
    for value, at in zip(x, indices()):
        channels[at[1]].append(value)
    means = [math.fsum(values) / len(values) for values in channels]
    return [(mean, math.fsum((value - mean) ** 2 for value in values) / len(values))
            for mean, values in zip(means, channels)]


class TestStructures(Case):
    def uses(self):
        """For each structure that is given: a call with it, which returns its status and the text that it left."""
        x = tensor()
        plan = self.plan_of_f32()
        context, bn = ctypes.c_void_p(), ctypes.c_void_p()
        message = HEADER.structures["clnorm_message"]()
        arrays = [values_of(math.prod(DIMS), 1, 0) for _ in "xy"]
        bound = bindings(dict(zip(NAMES, arrays)))

        def opened(options):
            status = LIB.clnorm_context_create(b"cpu", options, ctypes.byref(context), ctypes.byref(message))
            LIB.clnorm_context_destroy(context)
            return status, message.text

        def with_tuning(tuning):
            options = new("clnorm_context_options")
            options.tuning = tuning
            return opened(ctypes.byref(options))

        def kept(status):
            return status, LIB.clnorm_last_error(self.context)

        def planned(problem):
            problem.contents.tensors[C["CLNORM_X"]] = x
            other = ctypes.c_void_p()
            result = kept(LIB.clnorm_plan_create(self.context, problem, ctypes.byref(other)))
            LIB.clnorm_plan_destroy(other)
            return result

        def created(options):
            result = kept(LIB.clnorm_batchnorm_create(self.context, options, ctypes.byref(bn)))
            LIB.clnorm_batchnorm_destroy(bn)
            return result

        return {"clnorm_tuning": with_tuning, "clnorm_context_options": opened, "clnorm_problem": planned,
                "clnorm_run_options": lambda o: kept(LIB.clnorm_run(plan, bound, 2, o)),
                "clnorm_batchnorm_options": created}

    def plan_of_f32(self):
        problem = new("clnorm_problem")
        problem.tensors[C["CLNORM_X"]] = tensor()
        return self.plan(problem)

    def results(self):
        """The same for structures that are filled."""
        plan, x = self.plan_of_f32(), tensor()
        values = values_of(math.prod(DIMS), 1, 0)

        def kept(status):
            return status, LIB.clnorm_last_error(self.context)

        return {"clnorm_operand": lambda o: kept(LIB.clnorm_plan_operand(plan, C["CLNORM_X"], o)),
                "clnorm_difference": lambda d: kept(LIB.clnorm_compare_memory(
                    self.context, ctypes.byref(x), host(values), self.context, ctypes.byref(x), host(values), d)),
                "clnorm_problem": lambda p: kept(LIB.clnorm_batchnorm_problem(self.module(), ctypes.byref(x), p))}

    def calls(self):
        return [*self.uses().items(), *self.results().items()]

    def test_the_library_and_ctypes_agree_on_sizes(self):
        """Asked with a size that is too small, a call names the size that the library knows."""
        self.assertEqual({name for name, _ in self.calls()}, set(GROWING))
        for name, call in self.calls():
            with self.subTest(name):
                own = ctypes.sizeof(HEADER.structures[name])
                for size in (8, own - 1):
                    given = new(name)
                    given.size = size
                    status, text = call(ctypes.pointer(given))
                    self.assertEqual(status, C["CLNORM_ERROR_INVALID_ARGUMENT"])
                    least = re.search(rb"\.size is (\d+), but must be .*?(\d+) or more", text)
                    self.assertEqual((int(least[1]), int(least[2])), (size, own))

    def test_every_structure_with_a_size_is_looked_at(self):
        grow = {name for name, kind in HEADER.structures.items() if kind._fields_[0][0] == "size"}
        self.assertEqual(grow, set(GROWING))

    def test_init_writes_as_many_bytes_as_it_is_told(self):
        for name in GROWING:
            own = ctypes.sizeof(HEADER.structures[name])
            _, whole = structure(name)
            for size in (0, 7, 8, own // 2, own, own + UNKNOWN):
                with self.subTest(name, size=size):
                    _, raw = structure(name, size)
                    written = size if size >= 8 else 0
                    self.assertEqual(set(raw[written:]), {0xAA})
                    self.assertEqual(raw[8:min(written, own)], whole[8:min(written, own)])
                    self.assertEqual(set(raw[own:written]), {0} if written > own else set())
                    if written:
                        self.assertEqual(int.from_bytes(bytes(raw[:8]), sys.byteorder), size)

    def test_a_newer_caller(self):
        """Members that this library does not know are refused unless they are 0."""
        for name, call in self.uses().items():
            own = ctypes.sizeof(HEADER.structures[name])
            for at in (None, 0, UNKNOWN - 1):
                with self.subTest(name, at=at):
                    given, raw = structure(name, own + UNKNOWN)
                    if at is not None:
                        raw[own + at] = 1
                    status, text = call(ctypes.pointer(given))
                    if at is None:
                        self.assertEqual(status, C["CLNORM_OK"], text)
                    else:
                        self.assertEqual(status, C["CLNORM_ERROR_UNSUPPORTED"])
                        self.assertIn(f"byte {own + at} ", text.decode())

    def test_a_newer_caller_gets_results(self):
        """What this library knows is filled, the rest stays 0, and nothing behind is written."""
        for name, call in self.results().items():
            with self.subTest(name):
                own = ctypes.sizeof(HEADER.structures[name])
                given, raw = structure(name, own + UNKNOWN)
                same, expected = structure(name)
                self.assertEqual(call(ctypes.pointer(given))[0], C["CLNORM_OK"])
                self.assertEqual(call(ctypes.pointer(same))[0], C["CLNORM_OK"])
                self.assertEqual(raw[8:own], expected[8:own])
                self.assertEqual(set(raw[own:own + UNKNOWN]), {0})
                self.assertEqual(set(raw[own + UNKNOWN:]), {0xAA})

    def test_results_without_a_status_fill_what_is_there(self):
        """An older caller's shorter structure."""
        x, values = tensor(), values_of(math.prod(DIMS), 1, 0)
        own = ctypes.sizeof(HEADER.structures["clnorm_difference"])
        for size in (16, own // 2, own):
            difference, raw = structure("clnorm_difference", size)
            LIB.clnorm_compare(ctypes.byref(x), ctypes.addressof(values), ctypes.byref(x),
                               ctypes.addressof(values), ctypes.byref(difference))
            self.assertEqual((difference.size, difference.elements), (size, math.prod(DIMS)))
            self.assertEqual(set(raw[size:]), {0xAA})

    def test_structures_that_never_change(self):
        kind = HEADER.structures["clnorm_tensor"]
        own = ctypes.sizeof(kind)
        raw = (ctypes.c_ubyte * (own + 64))(*[0xAA] * (own + 64))
        LIB.clnorm_tensor_nhwc(ctypes.byref(kind.from_buffer(raw)), 0, 7, None)
        self.assertEqual(set(raw[own:]), {0xAA})
        self.assertNotIn(0xAA, raw[:own])
        text = bytes(raw[:own])
        self.assertEqual(text, bytes(kind(rank=7, channel_block=1)))
        memory = LIB.clnorm_host_memory(4096, 12)
        self.assertEqual((memory.host, memory.cl, memory.offset, memory.size), (4096, None, 0, 12))
        binding = LIB.clnorm_bind(C["CLNORM_BIAS"], memory)
        self.assertEqual((binding.role, binding.reserved, binding.memory.host, binding.memory.size),
                         (C["CLNORM_BIAS"], 0, 4096, 12))

    def test_a_cpu_context_takes_no_opencl_synchronization(self):
        """Each member is seen where ctypes puts it."""
        kind = HEADER.structures["clnorm_opencl_sync"]
        call, options = self.uses()["clnorm_run_options"], new("clnorm_run_options")
        place_of_events = (ctypes.c_void_p * 1)(4096)
        pointers = ctypes.cast(place_of_events, ctypes.POINTER(ctypes.c_void_p))
        for name, value in (("num_events_in_wait_list", 1), ("event_wait_list", pointers), ("event", pointers),
                            ("first_event", pointers), ("queue", 4096), (None, None)):
            with self.subTest(name):
                sync = kind()
                if name:
                    setattr(sync, name, value)
                options.sync = ctypes.pointer(sync)
                status, text = call(ctypes.pointer(options))
                self.assertEqual(status, C["CLNORM_ERROR_INVALID_ARGUMENT" if name else "CLNORM_OK"], text)


class TestForward(Case):
    def operands(self, t, x):
        channels = DIMS[1]
        return {"CLNORM_X": place(t, x), "CLNORM_Y": floats([math.nan] * len(place(t, x))),
                "CLNORM_WEIGHT": values_of(channels, 0.5, 1), "CLNORM_BIAS": values_of(channels, 1, 0.25),
                "CLNORM_RUNNING_MEAN": values_of(channels, 1, 0), "CLNORM_RUNNING_VAR": values_of(channels, 0.5, 2),
                **{name: floats([math.nan] * channels) for name in NAMES[6:]}}

    def check(self, t, x, operands, by, eps):
        """y against plain Python; by: (mean, variance) of each channel."""
        for value, at in zip(x, indices()):
            mean, var = by[at[1]]
            weight, bias = operands["CLNORM_WEIGHT"][at[1]], operands["CLNORM_BIAS"][at[1]]
            hat = (value - mean) / math.sqrt(var + eps)
            self.near(operands["CLNORM_Y"][index_of(t, at)], hat * weight + bias,
                      8 * UNIT * (abs(weight) * (abs(hat) + 1) + abs(bias)))
        for c, (mean, var) in enumerate(by):
            saved = [operands[name][c] for name in NAMES[6:]]
            self.near(saved[0] + saved[1], mean, UNIT * (2 * abs(mean) + 8 * math.sqrt(var)))
            self.near(saved[2] * math.sqrt(var + eps), 1, 8 * UNIT)

    def run_plan(self, t, x, statistics_of):
        problem, options = new("clnorm_problem"), new("clnorm_run_options")
        self.assertEqual((problem.eps, options.momentum), (1e-5, 0.9))
        problem.statistics = C[statistics_of]
        problem.eps = 0.5
        problem.tensors[C["CLNORM_X"]] = t
        operands, plan = self.operands(t, x), self.plan(problem)
        self.assertIn(b"f32 to f32", LIB.clnorm_plan_description(plan))
        options.momentum = 0.75
        bound = bindings(operands)
        before = list(operands["CLNORM_RUNNING_MEAN"]), list(operands["CLNORM_RUNNING_VAR"])
        self.ok(LIB.clnorm_run(plan, bound, len(bound), ctypes.byref(options)))
        self.ok(LIB.clnorm_finish(self.context))
        return operands, before

    def test_training_in_every_layout(self):
        x, results = values_of(math.prod(DIMS), 1.5, 0.5), []
        by = statistics(x)
        count = math.prod(DIMS) // DIMS[1]
        for t in (tensor("nchw"), tensor("nhwc"), tensor("blocked", DIMS, "CLNORM_F32", 4)):
            operands, (means, variances) = self.run_plan(t, x, "CLNORM_BATCH_STATISTICS")
            self.check(t, x, operands, by, 0.5)
            for c, (mean, var) in enumerate(by):
                self.near(operands["CLNORM_RUNNING_MEAN"][c], 0.75 * means[c] + 0.25 * mean, 16 * UNIT)
                self.near(operands["CLNORM_RUNNING_VAR"][c],
                          0.75 * variances[c] + 0.25 * var * count / (count - 1), 32 * UNIT)
            results.append([operands["CLNORM_Y"][index_of(t, at)] for at in indices()])
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])
        tail = [operands["CLNORM_Y"][index_of(t, (n, 3, h, w))] for n, _, h, w in indices((2, 1, 4, 5))]
        self.assertEqual(set(tail), {0})  # the block's fourth channel

    def test_evaluation(self):
        x = values_of(math.prod(DIMS), 1.5, 0.5)
        for t in (tensor("nchw"), tensor("nhwc")):
            operands, before = self.run_plan(t, x, "CLNORM_GIVEN_STATISTICS")
            self.check(t, x, operands, list(zip(*before)), 0.5)
            self.assertEqual(before, (list(operands["CLNORM_RUNNING_MEAN"]), list(operands["CLNORM_RUNNING_VAR"])))

    def test_operands_of_a_plan(self):
        problem = new("clnorm_problem")
        problem.tensors[C["CLNORM_X"]] = tensor("nhwc")
        plan, seen = self.plan(problem), {}
        for name in (*NAMES, "CLNORM_WORKSPACE"):
            operand = new("clnorm_operand")
            self.ok(LIB.clnorm_plan_operand(plan, C[name], ctypes.byref(operand)))
            seen[name] = (operand.required, operand.read, operand.written, operand.bytes)
            self.assertTrue(name == "CLNORM_WORKSPACE" or operand.alignment == 4)
        elements = 4 * math.prod(DIMS)
        self.assertEqual(seen["CLNORM_X"], (True, True, False, elements))
        self.assertEqual(seen["CLNORM_Y"], (True, False, True, elements))
        self.assertEqual(seen["CLNORM_WEIGHT"], (False, True, False, 12))
        self.assertEqual(seen["CLNORM_RUNNING_VAR"], (False, True, True, 12))
        self.assertEqual(seen["CLNORM_SAVED_MEAN_LOW"], (False, False, True, 12))
        operand = new("clnorm_operand")
        self.assertEqual(LIB.clnorm_plan_operand(plan, 5, ctypes.byref(operand)), C["CLNORM_ERROR_INVALID_ARGUMENT"])

    def test_module(self):
        bn, t = self.module(), tensor("nhwc")
        x = values_of(math.prod(DIMS), 1.5, 0.5)
        by = statistics(x)
        operands = self.operands(t, x)
        for name in NAMES[2:6]:
            values = operands.pop(name)
            if name in NAMES[2:4]:
                self.ok(LIB.clnorm_batchnorm_set(bn, C[name], C["CLNORM_F32"], values, 3))
        bound = bindings(operands)
        self.assertTrue(LIB.clnorm_batchnorm_training(bn) and LIB.clnorm_batchnorm_track_running_stats(bn))
        self.ok(LIB.clnorm_batchnorm_forward(bn, ctypes.byref(t), bound, len(bound), None))
        self.assertEqual(LIB.clnorm_batchnorm_num_batches_tracked(bn), 1)
        for name in NAMES[2:6]:
            operands[name] = floats([0] * 3)
            self.ok(LIB.clnorm_batchnorm_get(bn, C[name], C["CLNORM_F32"], operands[name], 3))
        self.check(t, x, operands, by, 1e-5)
        for c, (mean, _) in enumerate(by):
            self.near(operands["CLNORM_RUNNING_MEAN"][c], 0.1 * mean, 16 * UNIT)
        LIB.clnorm_batchnorm_set_training(bn, False)
        running = list(zip(operands["CLNORM_RUNNING_MEAN"], operands["CLNORM_RUNNING_VAR"]))
        self.ok(LIB.clnorm_batchnorm_forward(bn, ctypes.byref(t), bound, len(bound), None))
        self.check(t, x, operands, running, 1e-5)
        self.states(bn, t)

    def test_backward(self):
        bn, t, problem = self.module(), tensor(), new("clnorm_problem")
        x, dy, dx = values_of(120, 2, 1), values_of(120, 1, 0.25), floats([math.nan] * 120)
        sums = {"CLNORM_DWEIGHT": floats([math.nan] * 3), "CLNORM_DBIAS": floats([math.nan] * 3)}
        self.ok(LIB.clnorm_batchnorm_forward(bn, ctypes.byref(t), bindings({"CLNORM_X": x, "CLNORM_Y": dx}), 2, None))
        self.ok(LIB.clnorm_batchnorm_backward_problem(bn, ctypes.byref(t), ctypes.byref(problem)))
        self.assertEqual(problem.operation, C["CLNORM_BACKWARD"])
        bound = bindings({"CLNORM_X": x, "CLNORM_DY": dy, "CLNORM_DX": dx, **sums})
        self.ok(LIB.clnorm_batchnorm_backward(bn, ctypes.byref(t), bound, len(bound), None))
        for c, (mean, var) in enumerate(statistics(x)):
            places = [i for i, at in enumerate(indices()) if at[1] == c]
            xhat = {i: (x[i] - mean) / math.sqrt(var + 1e-5) for i in places}
            s, k = math.fsum(dy[i] for i in places), math.fsum(dy[i] * xhat[i] for i in places)
            size = math.fsum(abs(dy[i]) * (abs(xhat[i]) + 1) for i in places)
            self.near(sums["CLNORM_DBIAS"][c], s, 8 * UNIT * size)
            self.near(sums["CLNORM_DWEIGHT"][c], k, 8 * UNIT * size)
            for i in places:
                expected = (dy[i] - s / len(places) - xhat[i] * k / len(places)) / math.sqrt(var + 1e-5)
                self.near(dx[i], expected, 64 * UNIT)

    def states(self, bn, t):
        problem, one = new("clnorm_problem"), floats([0] * 3)
        self.ok(LIB.clnorm_batchnorm_problem(bn, ctypes.byref(t), ctypes.byref(problem)))
        self.assertEqual(problem.statistics, C["CLNORM_GIVEN_STATISTICS"])
        self.ok(LIB.clnorm_batchnorm_set_track_running_stats(bn, False))
        self.ok(LIB.clnorm_batchnorm_problem(bn, ctypes.byref(t), ctypes.byref(problem)))
        self.assertEqual(problem.statistics, C["CLNORM_BATCH_STATISTICS"])
        self.ok(LIB.clnorm_batchnorm_set_num_batches_tracked(bn, 7))
        self.assertEqual(LIB.clnorm_batchnorm_num_batches_tracked(bn), 7)
        self.ok(LIB.clnorm_batchnorm_reset_running_stats(bn))
        self.assertEqual(LIB.clnorm_batchnorm_num_batches_tracked(bn), 0)
        self.ok(LIB.clnorm_batchnorm_reset_parameters(bn))
        memory = LIB.clnorm_batchnorm_memory(bn, C["CLNORM_WEIGHT"])
        self.ok(LIB.clnorm_memory_read(self.context, memory, one, 12))
        self.assertEqual(list(one), [1, 1, 1])


class TestTheRest(Case):
    def test_texts(self):
        version = LIB.clnorm_version().decode()
        text = pathlib.Path(HEADER.path).read_text(encoding="utf-8")
        numbers = [re.search(rf"#define CLNORM_VERSION_{part} (\d+)", text)[1]
                   for part in ("MAJOR", "MINOR", "PATCH")]
        self.assertEqual(version, ".".join(numbers))
        for name in filter(re.compile("CLNORM_(OK|ERROR_.*)$").match, C):
            self.assertEqual(LIB.clnorm_status_name(C[name]).decode(), name)
            self.assertTrue(LIB.clnorm_status_text(C[name]))
        for name in (*NAMES, "CLNORM_WORKSPACE"):
            self.assertEqual(LIB.clnorm_role_name(C[name]).decode(), name[7:].lower())
        sizes = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8}
        for name, size in sizes.items():
            dtype = C["CLNORM_" + name]
            self.assertEqual((LIB.clnorm_dtype_name(dtype).decode(), LIB.clnorm_dtype_size(dtype)),
                             (name.lower(), size))

    def test_devices(self):
        devices = ctypes.c_void_p()
        self.assertEqual(LIB.clnorm_device_list_create(ctypes.byref(devices)), C["CLNORM_OK"])
        self.addCleanup(LIB.clnorm_device_list_destroy, devices)
        count = LIB.clnorm_device_list_count(devices)
        self.assertIn(LIB.clnorm_device_list_default(devices), range(count))
        for info in (LIB.clnorm_device_list_get(devices, 0), LIB.clnorm_context_device(self.context)):
            cpu = info.contents
            self.assertEqual((cpu.id, cpu.platform, cpu.type, cpu.form, cpu.status, cpu.usable, cpu.vector_width),
                             (b"cpu", b"clnorm", b"cpu", b"vector", b"ok", True, 0))
            self.assertGreaterEqual(cpu.compute_units, 1)
            self.assertLessEqual(cpu.compute_units, 1 << 16)
            self.assertTrue(cpu.denormals)
        for i in range(LIB.clnorm_device_list_missing_count(devices)):
            self.assertTrue(LIB.clnorm_device_list_missing(devices, i))
        self.assertIn(b"CPU path", LIB.clnorm_context_description(self.context))

    def test_failing(self):
        self.open(b"no such device", None, "CLNORM_ERROR_NO_DEVICE")
        self.assertIn("no such device", self.message)

    def test_a_log_and_times(self):
        options, seconds = new("clnorm_context_options"), ctypes.c_double(-1)
        lines = []
        options.log = type(options.log)(lambda user, line: lines.append((user, line)))
        options.log_user_data = 4711
        options.profiling = True
        with tempfile.TemporaryDirectory() as folder:
            options.cache_dir = folder.encode()
            self.context = self.open(b"cpu", ctypes.byref(options))
            self.tuning(lines)
        TestStructures.plan_of_f32(self)
        self.assertEqual(LIB.clnorm_last_run_seconds(self.context, ctypes.byref(seconds)), C["CLNORM_ERROR_STATE"])
        bn, x = self.module(), tensor()
        bound = bindings({"CLNORM_X": values_of(120, 1, 0), "CLNORM_Y": values_of(120, 1, 0)})
        self.ok(LIB.clnorm_batchnorm_forward(bn, ctypes.byref(x), bound, 2, None))
        self.ok(LIB.clnorm_last_run_seconds(self.context, ctypes.byref(seconds)))
        self.assertGreaterEqual(seconds.value, 0)

    def tuning(self, lines):
        """Of self.context, which has a cache folder of its own and a log."""
        kept, source = new("clnorm_tuning"), ctypes.c_int32(-1)
        device, folder = LIB.clnorm_context_device(self.context), LIB.clnorm_tuning_path(self.context)
        folder = str(pathlib.Path(folder.decode()).parent).encode()
        LIB.clnorm_context_tuning(self.context, ctypes.byref(kept), ctypes.byref(source))
        self.assertEqual((kept.form, source.value), (C["CLNORM_FORM_VECTOR"], C["CLNORM_TUNING_RULE"]))
        self.assertGreater(kept.stream_bytes, 0)
        kept.split_below, kept.stream_bytes, kept.train_stream_bytes = 2.5, 1 << 33, (1 << 64) - 1
        self.ok(LIB.clnorm_tuning_keep(self.context, ctypes.byref(kept)))
        found = new("clnorm_tuning")
        self.assertTrue(LIB.clnorm_tuning_kept(device, folder, ctypes.byref(found)))
        self.assertEqual((found.split_below, found.stream_bytes, found.train_stream_bytes),
                         (2.5, 1 << 33, (1 << 64) - 1))
        path = pathlib.Path(LIB.clnorm_tuning_path(self.context).decode())
        path.write_bytes(b"nonsense")
        LIB.clnorm_tuning_kept(device, folder, ctypes.byref(found))
        options = new("clnorm_context_options")
        options.cache_dir, options.log_user_data = folder, 4711
        options.log = type(options.log)(lambda user, line: lines.append((user, line)))
        other = self.open(b"cpu", ctypes.byref(options))
        LIB.clnorm_context_destroy(other)
        self.assertEqual({user for user, _ in lines}, {4711})
        self.assertIn(str(path), lines[0][1].decode())
        self.ok(LIB.clnorm_tuning_forget(self.context))
        self.assertFalse(path.exists())

    def test_memory(self):
        memory, values = HEADER.structures["clnorm_memory"](), values_of(12, 1, 0)
        back = floats([0] * 12)
        self.ok(LIB.clnorm_memory_alloc(self.context, 48, ctypes.byref(memory)))
        self.assertEqual((memory.host % 64, memory.cl, memory.offset, memory.size), (0, None, 0, 48))
        self.ok(LIB.clnorm_memory_write(self.context, memory, values, 48))
        memory.offset = 8
        memory.size = 40
        self.ok(LIB.clnorm_memory_read(self.context, memory, back, 40))
        self.assertEqual(back[:10], values[2:])
        memory.offset = 0
        LIB.clnorm_memory_free(self.context, ctypes.byref(memory))
        self.assertEqual(bytes(memory), bytes(32))

    def test_comparing(self):
        dense, last = tensor("nchw"), tensor("nhwc")
        values = values_of(math.prod(DIMS), 1.5, 0.5)
        a, b = place(dense, values), place(last, values)
        bits = array.array("I", bytes(b))
        bits[index_of(last, (1, 2, 3, 1))] += 3
        b = floats(array.array("f", bits.tobytes()))
        difference = new("clnorm_difference")
        LIB.clnorm_compare(ctypes.byref(dense), ctypes.addressof(a), ctypes.byref(last), ctypes.addressof(b),
                           ctypes.byref(difference))
        self.assertEqual((difference.elements, difference.differing_elements, difference.max_ulp),
                         (math.prod(DIMS), 1, 3))
        self.assertEqual(list(difference.first)[:4], [1, 2, 3, 1])
        self.assertEqual((difference.histogram[0], difference.histogram[2]), (math.prod(DIMS) - 1, 1))

    def test_comparing_runs(self):
        other = self.open()
        self.addCleanup(LIB.clnorm_context_destroy, other)
        problem, options = new("clnorm_problem"), new("clnorm_run_options")
        problem.tensors[C["CLNORM_X"]] = tensor("nhwc")
        names = ("CLNORM_Y", "CLNORM_SAVED_MEAN", "CLNORM_SAVED_INVSTD")
        differences = [new("clnorm_difference") for _ in names]
        compared = (HEADER.structures["clnorm_compared"] * len(names))()
        for item, name, difference in zip(compared, names, differences):
            item.role, item.difference = C[name], ctypes.pointer(difference)
        inputs = bindings({"CLNORM_X": values_of(math.prod(DIMS), 1, 0)})
        contexts = (ctypes.c_void_p * 2)(self.context, other)
        self.ok(LIB.clnorm_compare_runs(contexts, ctypes.byref(problem), inputs, 1,
                                        ctypes.byref(options), compared, len(names)))
        self.assertEqual([(d.elements, d.differing_elements) for d in differences], [(120, 0), (3, 0), (3, 0)])


class TestZZZ(unittest.TestCase):
    """Last: unittest runs classes by their names."""

    def test_every_function_was_called(self):
        self.assertEqual(set(HEADER.functions) - LIB.called, set())
        self.assertGreater(len(LIB.called), 60)


def main():
    global C, HEADER, LIB
    header, library = sys.argv[1:3]
    HEADER = Header(header)
    C, LIB = HEADER.constants, Library(HEADER, library)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)


if __name__ == "__main__":
    main()
