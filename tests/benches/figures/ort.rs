//! ONNX Runtime through its C interface: the peer that our scoring is laid beside.
//!
//! The library is found at run time (`VEDETTE_ORT`), so that neither the workspace nor a test needs it. A [`Session`] owns its input
//! and output buffers, bound once as tensors: a run copies nothing but what the caller writes into the input, which is the fastest
//! way to use this interface (but for files that declare a wrong shape, see `given`).

#![allow(unsafe_code, reason = "a foreign C interface, in a benchmark only; each block says why it holds")]

use std::ffi::{CStr, CString, c_void};
use std::ptr;

use anyhow::{Context as _, bail, ensure};
use libloading::Library;
use ort_sys::{
    ONNXTensorElementDataType, OrtAllocatorType, OrtApi, OrtApiBase, OrtEnv, OrtLoggingLevel, OrtMemType,
    OrtMemoryInfo, OrtSession, OrtSessionOptions, OrtStatusPtr, OrtValue,
};

/// The interface's version that `ort-sys` was told to describe (its feature `api-24`).
const API_VERSION: u32 = 24;

/// The loaded library: an environment, options for one thread, a description of CPU memory.
pub(crate) struct Runtime {
    api: &'static OrtApi,
    env: *mut OrtEnv,
    options: *mut OrtSessionOptions,
    /// As `options`, with sums of 8-bit products that do not saturate on processors without VNNI.
    exact: *mut OrtSessionOptions,
    memory: *mut OrtMemoryInfo,
    version: String,
}

/// A model with its bound buffers, for one batch size.
pub(crate) struct Session<'a> {
    runtime: &'a Runtime,
    session: *mut OrtSession,
    input: Buffer<'a>,
    input_name: CString,
    outputs: Vec<(CString, Buffer<'a>)>,
    /// Some files declare a wrong shape for an output; into a bound buffer ONNX Runtime then writes nothing. There each run gets
    /// tensors from it, as most of its users do, and these are the last run's.
    given: Option<[*mut OrtValue; PORTS_MAX]>,
}

/// The arrays of a run stay on the stack so that the peer's hot path allocates nothing of ours.
const PORTS_MAX: usize = 4;

/// Numbers and the tensor that looks at them.
struct Buffer<'a> {
    runtime: &'a Runtime,
    numbers: Numbers,
    value: *mut OrtValue,
}

/// What a buffer holds.
#[derive(Clone)]
pub(crate) enum Numbers {
    F32(Box<[f32]>),
    I64(Box<[i64]>),
}

/// What a port's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    I64,
}

/// Name, kind and shape (with the batch axis) of an input or output.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
}

impl Port {
    /// A port of f32.
    pub(crate) fn f32(name: &str, shape: Vec<usize>) -> Self {
        Self { name: name.to_owned(), kind: Kind::F32, shape }
    }
}

impl Runtime {
    /// Loads the library that `VEDETTE_ORT` names; `None` when the variable is not set.
    ///
    /// # Errors
    /// When it cannot be loaded or does not offer the interface.
    pub(crate) fn from_env() -> anyhow::Result<Option<Self>> {
        let Some(path) = std::env::var_os("VEDETTE_ORT") else {
            return Ok(None);
        };
        Self::load(&path).with_context(|| format!("couldn't use VEDETTE_ORT={}", path.display())).map(Some)
    }

    fn load(path: &std::ffi::OsStr) -> anyhow::Result<Self> {
        // SAFETY: the library's initialisers are ONNX Runtime's own; it is never unloaded (leaked), so the pointers it gives out stay valid.
        let library: &'static Library = Box::leak(Box::new(unsafe { Library::new(path) }?));
        // SAFETY: this is the declared type of the one symbol that the interface documents.
        let base = unsafe { library.get::<unsafe extern "system" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0") }?;
        // SAFETY: the function takes nothing and gives a static table, or null.
        let base = unsafe { base().as_ref() }.context("no interface table")?;
        // SAFETY: gives a static, terminated string.
        let version = unsafe { CStr::from_ptr((base.GetVersionString)()) }.to_string_lossy().into_owned();
        // SAFETY: gives a static table of at least this version, or null.
        let api =
            unsafe { (base.GetApi)(API_VERSION).as_ref() }.context("the library is older than interface version 24")?;
        let (env, memory) = (ptr::null_mut(), ptr::null_mut());
        let mut runtime = Self { api, env, options: ptr::null_mut(), exact: ptr::null_mut(), memory, version };
        runtime.prepare()?;
        Ok(runtime)
    }

    fn prepare(&mut self) -> anyhow::Result<()> {
        let api = self.api;
        // SAFETY: each call writes one handle to the place it is given, which lives in self; names are static strings.
        unsafe {
            check(
                api,
                (api.CreateEnv)(OrtLoggingLevel::ORT_LOGGING_LEVEL_ERROR, c"figures".as_ptr(), &raw mut self.env),
            )?;
            for options in [&raw mut self.options, &raw mut self.exact] {
                check(api, (api.CreateSessionOptions)(options))?;
                check(api, (api.SetIntraOpNumThreads)(*options, 1))?;
                check(api, (api.SetInterOpNumThreads)(*options, 1))?;
            }
            let (key, on) = (c"session.x64quantprecision".as_ptr(), c"1".as_ptr());
            check(api, (api.AddSessionConfigEntry)(self.exact, key, on))?;
            let (kind, place) = (OrtAllocatorType::OrtDeviceAllocator, OrtMemType::OrtMemTypeDefault);
            check(api, (api.CreateCpuMemoryInfo)(kind, place, &raw mut self.memory))
        }
    }

    /// The library's version, as it names itself.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// A session on a model with buffers for these ports.
    ///
    /// # Errors
    /// When the library refuses the model; with its words.
    pub(crate) fn session(&self, model: &[u8], input: &Port, outputs: &[Port]) -> anyhow::Result<Session<'_>> {
        self.session_with(self.options, model, input, outputs)
    }

    /// As [`Runtime::session`], for comparing numbers: 8-bit products are summed up exactly on every processor.
    ///
    /// # Errors
    /// When the library refuses the model; with its words.
    pub(crate) fn exact_session(&self, model: &[u8], input: &Port, outputs: &[Port]) -> anyhow::Result<Session<'_>> {
        self.session_with(self.exact, model, input, outputs)
    }

    fn session_with(
        &self,
        options: *mut OrtSessionOptions,
        model: &[u8],
        input: &Port,
        outputs: &[Port],
    ) -> anyhow::Result<Session<'_>> {
        let mut session = ptr::null_mut();
        // SAFETY: the model's bytes outlive the call, which copies what it keeps.
        check(self.api, unsafe {
            (self.api.CreateSessionFromArray)(self.env, model.as_ptr().cast(), model.len(), options, &raw mut session)
        })?;
        let mut made = Session {
            runtime: self,
            session,
            input: self.buffer(input)?,
            input_name: CString::new(input.name.as_str())?,
            outputs: Vec::new(),
            given: None,
        };
        ensure!(outputs.len() <= PORTS_MAX, "more than {PORTS_MAX} outputs");
        for port in outputs {
            made.outputs.push((CString::new(port.name.as_str())?, self.buffer(port)?));
        }
        if made.run().is_err() {
            made.given = Some([ptr::null_mut(); PORTS_MAX]);
            made.run()?;
        }
        Ok(made)
    }

    fn buffer(&self, port: &Port) -> anyhow::Result<Buffer<'_>> {
        let axes = port.shape.iter().map(|size| i64::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
        let count = port.shape.iter().product();
        let mut numbers = match port.kind {
            Kind::F32 => Numbers::F32(vec![0.0; count].into_boxed_slice()),
            Kind::I64 => Numbers::I64(vec![0; count].into_boxed_slice()),
        };
        let (place, bytes, element) = match &mut numbers {
            Numbers::F32(list) => {
                let element = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
                (list.as_mut_ptr().cast::<c_void>(), size_of_val(&**list), element)
            }
            Numbers::I64(list) => {
                let element = ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
                (list.as_mut_ptr().cast::<c_void>(), size_of_val(&**list), element)
            }
        };
        let mut value = ptr::null_mut();
        // SAFETY: the tensor looks at `numbers`, whose heap place does not move and is freed after the tensor (see Drop).
        check(self.api, unsafe {
            (self.api.CreateTensorWithDataAsOrtValue)(
                self.memory,
                place,
                bytes,
                axes.as_ptr(),
                axes.len(),
                element,
                &raw mut value,
            )
        })?;
        Ok(Buffer { runtime: self, numbers, value })
    }
}

/// The status as a result; its message is taken out and the status released.
fn check(api: &OrtApi, status: OrtStatusPtr) -> anyhow::Result<()> {
    if status.0.is_null() {
        return Ok(());
    }
    // SAFETY: a status that is not null holds a terminated message until it is released, once, here.
    let message = unsafe {
        let message = CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
        (api.ReleaseStatus)(status.0);
        message
    };
    bail!("ONNX Runtime: {message}")
}

impl Session<'_> {
    /// The input's numbers, row-major.
    pub(crate) fn input(&mut self) -> &mut [f32] {
        self.input.numbers.floats_mut()
    }

    /// The numbers of output `i` of the last run.
    pub(crate) fn output(&self, i: usize) -> Numbers {
        let Some((_, buffer)) = self.outputs.get(i) else { return Numbers::F32(Box::default()) };
        let given = self.given.map(|given| self.data(given[i]));
        match (&buffer.numbers, given) {
            (numbers, None) => numbers.clone(),
            // SAFETY: the tensor is this run's, of this kind, and holds as many numbers as the buffer that was meant for it.
            (Numbers::F32(list), Some(data)) => unsafe {
                Numbers::F32(std::slice::from_raw_parts(data.cast::<f32>(), list.len()).into())
            },
            // SAFETY: as above.
            (Numbers::I64(list), Some(data)) => unsafe {
                Numbers::I64(std::slice::from_raw_parts(data.cast::<i64>(), list.len()).into())
            },
        }
    }

    fn data(&self, value: *mut OrtValue) -> *const c_void {
        let mut data = ptr::null_mut();
        // SAFETY: the value is a tensor that the last run gave; an error leaves the pointer null, which is asked below.
        let status = unsafe { (self.runtime.api.GetTensorMutableData)(value, &raw mut data) };
        assert!(check(self.runtime.api, status).is_ok() && !data.is_null(), "a run gave no tensor");
        data.cast_const()
    }

    /// Runs the model on what the input holds.
    ///
    /// # Errors
    /// When the library refuses; with its words.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        self.release_given();
        let mut names = [ptr::null(); PORTS_MAX];
        let mut values = [ptr::null_mut(); PORTS_MAX];
        for (i, (name, buffer)) in self.outputs.iter().enumerate() {
            names[i] = name.as_ptr();
            values[i] = if self.given.is_some() { ptr::null_mut() } else { buffer.value };
        }
        let (input_name, input) = (self.input_name.as_ptr(), self.input.value.cast_const());
        // SAFETY: all names and tensors live in self; the counts are theirs; outputs are written to the bound buffers, or
        // null places are filled with tensors that are ours to release.
        check(self.runtime.api, unsafe {
            (self.runtime.api.Run)(
                self.session,
                ptr::null(),
                &raw const input_name,
                &raw const input,
                1,
                names.as_ptr(),
                self.outputs.len(),
                values.as_mut_ptr(),
            )
        })?;
        if let Some(given) = &mut self.given {
            *given = values;
        }
        Ok(())
    }

    fn release_given(&mut self) {
        for value in self.given.iter_mut().flatten() {
            // SAFETY: a tensor that a run gave, released once; null is allowed.
            unsafe { (self.runtime.api.ReleaseValue)(*value) }
            *value = ptr::null_mut();
        }
    }
}

impl Numbers {
    fn floats_mut(&mut self) -> &mut [f32] {
        match self {
            Self::F32(list) => list,
            Self::I64(_) => &mut [],
        }
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        // SAFETY: made by this library, released once, before the numbers it looks at.
        unsafe { (self.runtime.api.ReleaseValue)(self.value) }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.release_given();
        // SAFETY: made by this library, released once.
        unsafe { (self.runtime.api.ReleaseSession)(self.session) }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // SAFETY: made by this library, released once; sessions borrow self and are gone. Null is allowed.
        unsafe {
            (self.api.ReleaseMemoryInfo)(self.memory);
            (self.api.ReleaseSessionOptions)(self.options);
            (self.api.ReleaseSessionOptions)(self.exact);
            (self.api.ReleaseEnv)(self.env);
        }
    }
}
