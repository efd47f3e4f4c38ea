//! Writes small ONNX files byte by byte, so that tests can hold what no exporter writes.

/// A message of protobuf under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// A whole number.
    pub(crate) fn int(mut self, field: u64, number: i64) -> Message {
        self.varint(field << 3);
        self.varint(number.cast_unsigned());
        self
    }

    /// Bytes, a text.
    pub(crate) fn bytes(mut self, field: u64, bytes: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// A message within.
    pub(crate) fn message(self, field: u64, message: &Message) -> Message {
        self.bytes(field, &message.0)
    }

    fn float(mut self, field: u64, number: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }
}

/// ONNX's number for f32, and for i64.
pub(crate) const F32: i64 = 1;
pub(crate) const I64: i64 = 7;

/// A graph with the input `x` and the output `y`.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    body: Message,
    opset: i64,
    shape: Vec<i64>,
}

/// An attribute of a node.
#[derive(Clone, Debug)]
pub(crate) enum Set<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Floats(&'a [f32]),
    Text(&'a str),
    Texts(&'a [&'a str]),
}

impl Graph {
    /// `x` has `shape`, the batch of one included.
    pub(crate) fn of(shape: &[i64]) -> Graph {
        Graph { body: Message::default(), opset: 17, shape: shape.to_vec() }
    }

    pub(crate) fn opset(mut self, version: i64) -> Graph {
        self.opset = version;
        self
    }

    /// A node of ONNX's own.
    pub(crate) fn node(self, operator: &str, inputs: &[&str], outputs: &[&str], sets: &[(&str, Set<'_>)]) -> Graph {
        self.of_domain("", operator, inputs, outputs, sets)
    }

    /// A node of ai.onnx.ml.
    pub(crate) fn ml(self, operator: &str, inputs: &[&str], outputs: &[&str], sets: &[(&str, Set<'_>)]) -> Graph {
        self.of_domain("ai.onnx.ml", operator, inputs, outputs, sets)
    }

    /// A node of com.microsoft.
    pub(crate) fn microsoft(self, operator: &str, inputs: &[&str], outputs: &[&str]) -> Graph {
        self.of_domain("com.microsoft", operator, inputs, outputs, &[])
    }

    fn of_domain(
        mut self,
        domain: &str,
        operator: &str,
        inputs: &[&str],
        outputs: &[&str],
        sets: &[(&str, Set<'_>)],
    ) -> Graph {
        let mut node = Message::default();
        for input in inputs {
            node = node.bytes(1, input.as_bytes());
        }
        for output in outputs {
            node = node.bytes(2, output.as_bytes());
        }
        node = node.bytes(4, operator.as_bytes());
        for (name, set) in sets {
            node = node.message(5, &attribute(name, set));
        }
        self.body = self.body.message(1, &node.bytes(7, domain.as_bytes()));
        self
    }

    /// A weight whose bytes are given as they are.
    pub(crate) fn raw(mut self, name: &str, kind: i64, dims: &[i64], bytes: &[u8]) -> Graph {
        let mut tensor = Message::default();
        for dim in dims {
            tensor = tensor.int(1, *dim);
        }
        self.body = self.body.message(5, &tensor.int(2, kind).bytes(8, name.as_bytes()).bytes(9, bytes));
        self
    }

    pub(crate) fn floats(self, name: &str, dims: &[i64], numbers: &[f32]) -> Graph {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.raw(name, F32, dims, &bytes)
    }

    pub(crate) fn ints(self, name: &str, numbers: &[i64]) -> Graph {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        self.raw(name, I64, &[numbers.len() as i64], &bytes)
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut shape = Message::default();
        for dim in &self.shape {
            shape = shape.message(1, &Message::default().int(1, *dim));
        }
        let tensor = Message::default().int(1, F32).message(2, &shape);
        let port = |name: &str| {
            let kind = Message::default().message(1, &tensor);
            Message::default().bytes(1, name.as_bytes()).message(2, &kind)
        };
        let graph = self.body.clone().bytes(2, b"g").message(11, &port("x")).message(12, &port("y"));
        let set = |domain: &str, version| Message::default().bytes(1, domain.as_bytes()).int(2, version);
        let model = Message::default().int(1, 8).message(7, &graph).message(8, &set("", self.opset));
        model.message(8, &set("ai.onnx.ml", 3)).message(8, &set("com.microsoft", 1)).0
    }
}

fn attribute(name: &str, set: &Set<'_>) -> Message {
    let named = Message::default().bytes(1, name.as_bytes());
    match set {
        Set::Float(n) => named.float(2, *n).int(20, 1),
        Set::Int(n) => named.int(3, *n).int(20, 2),
        Set::Text(text) => named.bytes(4, text.as_bytes()).int(20, 3),
        Set::Floats(list) => list.iter().fold(named, |m, n| m.float(7, *n)).int(20, 6),
        Set::Ints(list) => list.iter().fold(named, |m, n| m.int(8, *n)).int(20, 7),
        Set::Texts(list) => list.iter().fold(named, |m, t| m.bytes(9, t.as_bytes())).int(20, 8),
    }
}
