"""clnorm.h as Python's ctypes sees it: constants, structures and functions, all read from the header itself.

The header is plain enough for that: one declaration a line or two, enumerations with values, X-macros whose rows are
X(name, value, text). What this cannot read, it does not skip: a type that it does not know is a KeyError.
"""
import ctypes
import re

SIMPLE = {
    "void": None, "bool": ctypes.c_bool, "char": ctypes.c_char, "int": ctypes.c_int, "float": ctypes.c_float,
    "double": ctypes.c_double, "size_t": ctypes.c_size_t, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64,
    "clnorm_log_function": ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p),
}
HIDDEN = re.compile(r"/\*.*?\*/|\\\n", re.DOTALL)
ROW = re.compile(r"\bX\((CLNORM_\w+), (\d+), \"")
ENUM = re.compile(r"\benum(?: \w+)? \{(.*?)\}", re.DOTALL)
STRUCTURE = re.compile(r"typedef struct (\w+) \{(.*?)\}", re.DOTALL)
ENUM_TYPE = re.compile(r"typedef enum (\w+)")
OPAQUE = re.compile(r"(?:typedef )?struct (\w+)(?: \w+)?;")
FUNCTION = re.compile(r"CLNORM_API ([^;{}#]*?)(\w+)\(([^;]*)\);")
DECLARATOR = re.compile(r"(\**)\s*(?:const\s+)?(\**)\s*(\w*)\s*((?:\[[^\]]*\]\s*)*)$")


class Header:
    """constants, structures (name -> class) and functions (name -> (result, [parameters]))."""

    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            text = HIDDEN.sub(" ", file.read())
        self.types = dict(SIMPLE, **{name: ctypes.c_int for name in ENUM_TYPE.findall(text)})
        self.constants = {name: int(value) for name, value in ROW.findall(text)}
        for body in ENUM.findall(text):
            self.constants.update((name, int(value)) for name, value in re.findall(r"(\w+) =\s*(\d+)", body))
        self.opaque = set(OPAQUE.findall(text))
        self.structures = {}
        for name, body in STRUCTURE.findall(text):
            self.types[name] = self.structures[name] = self.structure(name, body)
        self.functions = {name: (self.parse(result + " ")[1], self.parameters(parameters))
                          for result, name, parameters in FUNCTION.findall(text)}

    def parse(self, declaration):
        """(name, type) of a declaration; name is "" for a bare type."""
        words = re.sub(r"\b(const|struct|enum)\b", " ", declaration).strip()
        base, _, rest = re.sub(r"\s*\*", " *", words).partition(" ")
        return self.declare(base, rest)

    def declare(self, base, declarator):
        stars, more, name, arrays = DECLARATOR.match(declarator.strip().replace("* *", "**")).groups()
        depth = len(stars) + len(more)
        if base in self.opaque or (base == "void" and depth):
            kind, depth = ctypes.c_void_p, depth - 1
        elif base == "char" and depth:
            kind, depth = ctypes.c_char_p, depth - 1
        else:
            kind = self.types[base]
        for _ in range(depth):
            kind = ctypes.POINTER(kind)
        for count in reversed(re.findall(r"\[\s*(\w+)\s*\]", arrays)):
            kind = kind * (int(count) if count.isdigit() else self.constants[count])
        return name, kind

    def parameters(self, text):
        if text.strip() == "void":
            return []
        return [self.parse(parameter)[1] for parameter in text.split(",")]

    def structure(self, name, body):
        fields = []
        for declaration in filter(str.strip, body.split(";")):
            first, *others = declaration.split(",")
            base = re.sub(r"\b(const|struct)\b", " ", first).split()[0]
            fields.append(self.parse(first))
            fields.extend(self.declare(base, other) for other in others)
        return type(name, (ctypes.Structure,), {"_fields_": fields})


class Library:
    """The functions of a shared library with the header's types; `called` has the names of those that were used."""

    def __init__(self, header, path):
        self.called = set()
        library = ctypes.CDLL(path)
        for name, (result, parameters) in header.functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, parameters
            setattr(self, name, self.counted(name, function))

    def counted(self, name, function):
        def call(*arguments):
            self.called.add(name)
            return function(*arguments)
        return call
