//! A graph in the making: nodes in the order in which they are computed, constants, inputs and outputs.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::element::Element;
use crate::error::OnnxError;
use crate::initializer::{Data, Initializer};
use crate::options::Precision;
use crate::schema::{AttributeProto, DimensionProto, NodeProto, ValueInfoProto};
use crate::weights::Weights;

/// A tensor of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    name: String,
    pub element: Element,
}

/// A graph that computes with a model's weights.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub nodes: Vec<NodeProto>,
    pub initializers: Vec<Initializer<'a>>,
    pub inputs: Vec<ValueInfoProto>,
    pub outputs: Vec<ValueInfoProto>,
    pub weights: &'a Weights<'a>,
    pub precision: Precision,
    /// What precedes the names of new nodes.
    scope: String,
    /// The names of nodes and of their outputs.
    names: HashSet<String>,
    /// How many nodes wanted a name.
    wanted: HashMap<String, usize>,
    constants: HashMap<String, Element>,
}

impl<'a> Graph<'a> {
    pub fn new(weights: &'a Weights<'a>, precision: Precision) -> Self {
        Self {
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            weights,
            precision,
            scope: String::new(),
            names: HashSet::new(),
            wanted: HashMap::new(),
            constants: HashMap::new(),
        }
    }

    /// Names the part of the model that the next nodes compute.
    pub fn enter(&mut self, scope: &str) {
        self.scope = format!("/{scope}");
    }

    pub fn input(
        &mut self,
        name: &str,
        element: Element,
        dims: Vec<DimensionProto>,
        doc: &str,
    ) -> Value {
        self.names.insert(name.to_string());
        let info = ValueInfoProto::new(name, element, dims, doc);
        self.inputs.push(info);
        Value {
            name: name.to_string(),
            element,
        }
    }

    /// Makes a value an output, under this name.
    pub fn output(&mut self, name: &str, value: &Value, dims: Vec<DimensionProto>, doc: &str) {
        self.names.insert(name.to_string());
        let node = self.unique(&format!("/{name}"));
        self.nodes.push(NodeProto {
            input: vec![value.name.clone()],
            output: vec![name.to_string()],
            name: node,
            op_type: "Identity".into(),
            attribute: Vec::new(),
        });
        let info = ValueInfoProto::new(name, value.element, dims, doc);
        self.outputs.push(info);
    }

    /// A node with one output.
    /// - element: of the output.
    pub fn add(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        element: Element,
    ) -> Value {
        let [value] = self.add_many(op, inputs, attributes, [element]);
        value
    }

    /// A node with several outputs.
    pub fn add_many<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        elements: [Element; N],
    ) -> [Value; N] {
        let name = self.unique(&format!("{}/{op}", self.scope));
        let values: [Value; N] = std::array::from_fn(|at| Value {
            name: self.unique(&format!("{name}_output_{at}")),
            element: elements[at],
        });
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|value| value.name.clone()).collect(),
            output: values.iter().map(|value| value.name.clone()).collect(),
            name,
            op_type: op.to_string(),
            attribute: attributes,
        });
        values
    }

    /// Adds a constant; one of this name that is there already is taken for the same.
    ///
    /// # Errors
    /// If it is in f16 and does not fit.
    pub fn constant(
        &mut self,
        name: &str,
        dims: &[usize],
        data: Data<'a>,
        element: Element,
    ) -> Result<Value, OnnxError> {
        if element == Element::F16
            && let Some(value) = data.beyond_f16()
        {
            return Err(OnnxError::Overflow {
                name: name.to_string(),
                value,
            });
        }
        Ok(self.constant_that_fits(name, dims, data, element))
    }

    fn constant_that_fits(
        &mut self,
        name: &str,
        dims: &[usize],
        data: Data<'a>,
        element: Element,
    ) -> Value {
        if let Some(known) = self.constants.insert(name.to_string(), element) {
            debug_assert_eq!(known, element, "{name}");
        } else {
            self.names.insert(name.to_string());
            self.initializers.push(Initializer {
                name: name.to_string(),
                dims: dims.to_vec(),
                element,
                data,
            });
        }
        Value {
            name: name.to_string(),
            element,
        }
    }

    /// A weight under its own name, in f32.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Value, OnnxError> {
        let values = self.weights.get(name, shape)?;
        let data = Data::Floats(Cow::Borrowed(values));
        self.constant(name, shape, data, Element::F32)
    }

    /// A number without axes.
    pub fn scalar(&mut self, value: f32, element: Element) -> Value {
        let kind = if element == Element::F16 { "_f16" } else { "" };
        let data = Data::Floats(Cow::Owned(vec![value]));
        self.constant_that_fits(&format!("scalar{kind}_{value:e}"), &[], data, element)
    }

    /// A whole number without axes.
    pub fn index(&mut self, value: i64) -> Value {
        let data = Data::Ints(vec![value]);
        self.constant_that_fits(&format!("index_{value}"), &[], data, Element::I64)
    }

    /// A list of whole numbers, such as a shape or axes.
    pub fn list(&mut self, values: &[i64]) -> Value {
        let numbers: Vec<String> = values.iter().map(i64::to_string).collect();
        let name = format!("list_{}", numbers.join("_"));
        let data = Data::Ints(values.to_vec());
        self.constant_that_fits(&name, &[values.len()], data, Element::I64)
    }

    /// The same values with another element type.
    pub fn cast(&mut self, x: &Value, element: Element) -> Value {
        if x.element == element {
            return x.clone();
        }
        let to = AttributeProto::int("to", i64::from(element.code()));
        self.add("Cast", &[x], vec![to], element)
    }

    /// As an operand of a product: f16 in files of half precision.
    pub fn narrow(&mut self, x: &Value) -> Value {
        if self.precision == Precision::Fp16 {
            self.cast(x, Element::F16)
        } else {
            x.clone()
        }
    }

    /// In f32.
    pub fn widen(&mut self, x: &Value) -> Value {
        self.cast(x, Element::F32)
    }

    /// A node of two operands of one type, which is the result's.
    pub fn binary(&mut self, op: &str, a: &Value, b: &Value) -> Value {
        debug_assert_eq!(a.element, b.element, "{op} of {} and {}", a.name, b.name);
        self.add(op, &[a, b], Vec::new(), a.element)
    }

    /// A node that keeps the type of its operand.
    pub fn unary(&mut self, op: &str, x: &Value) -> Value {
        self.add(op, &[x], Vec::new(), x.element)
    }

    /// A node of an operand and a number.
    pub fn with_scalar(&mut self, op: &str, x: &Value, value: f32) -> Value {
        let scalar = self.scalar(value, x.element);
        self.binary(op, x, &scalar)
    }

    /// - shape: 0 keeps a size, -1 is what is left.
    pub fn reshape(&mut self, x: &Value, shape: &[i64]) -> Value {
        let shape = self.list(shape);
        self.add("Reshape", &[x, &shape], Vec::new(), x.element)
    }

    pub fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        let order = AttributeProto::ints("perm", order);
        self.add("Transpose", &[x], vec![order], x.element)
    }

    pub fn concat(&mut self, parts: &[&Value], axis: i64) -> Value {
        let axis = AttributeProto::int("axis", axis);
        self.add("Concat", parts, vec![axis], parts[0].element)
    }

    /// One element of an axis, which goes away.
    /// - at: from the end if it is negative.
    pub fn pick(&mut self, x: &Value, axis: i64, at: i64) -> Value {
        let at = self.index(at);
        let axis = AttributeProto::int("axis", axis);
        self.add("Gather", &[x, &at], vec![axis], x.element)
    }

    /// Parts of an axis from `from` to before `to`.
    /// - to: one whole number, `[1]`.
    pub fn slice(&mut self, x: &Value, axis: i64, from: i64, to: &Value) -> Value {
        let (from, axis) = (self.list(&[from]), self.list(&[axis]));
        self.add("Slice", &[x, &from, to, &axis], Vec::new(), x.element)
    }

    /// Parts of these sizes of the last axis.
    pub fn split<const N: usize>(&mut self, x: &Value, sizes: [usize; N]) -> [Value; N] {
        let sizes = self.list(&sizes.map(as_i64));
        let axis = AttributeProto::int("axis", -1);
        self.add_many("Split", &[x, &sizes], vec![axis], [x.element; N])
    }

    /// The rows of a table at these indices.
    pub fn gather(&mut self, table: &Value, indices: &Value) -> Value {
        let axis = AttributeProto::int("axis", 0);
        self.add("Gather", &[table, indices], vec![axis], table.element)
    }

    /// The mean over an axis.
    pub fn mean(&mut self, x: &Value, axis: i64, keep: bool) -> Value {
        let attributes = vec![
            AttributeProto::ints("axes", &[axis]),
            AttributeProto::int("keepdims", i64::from(keep)),
        ];
        self.add("ReduceMean", &[x], attributes, x.element)
    }

    /// The size of an axis, `[1]`.
    pub fn size(&mut self, x: &Value, axis: i64) -> Value {
        let attributes = vec![
            AttributeProto::int("start", axis),
            AttributeProto::int("end", axis + 1),
        ];
        self.add("Shape", &[x], attributes, Element::I64)
    }

    fn unique(&mut self, wanted: &str) -> String {
        loop {
            let times = self.wanted.entry(wanted.to_string()).or_insert(0);
            let name = match *times {
                0 => wanted.to_string(),
                more => format!("{wanted}_{more}"),
            };
            *times += 1;
            if self.names.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// A size as ONNX has it.
pub(crate) fn as_i64(size: usize) -> i64 {
    i64::try_from(size).expect("sizes of tensors fit in i64")
}
