//! ONNX Runtime through its C interface: the peer that our scoring is laid beside.
//!
//! The library is found at run time (`VEDETTE_ORT`), so that neither the workspace nor a test needs it. A [`Session`] owns its input
//! and output buffers, bound once as tensors: a run copies nothing but what the caller writes into the input, which is the fastest
//! way to use this interface.

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
}

/// Numbers and the tensor that looks at them.
struct Buffer<'a> {
    runtime: &'a Runtime,
    numbers: Box<[f32]>,
    value: *mut OrtValue,
}

/// Name and shape (with the batch axis) of an input or output.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<u32>,
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
        let mut runtime =
            Self { api, env: ptr::null_mut(), options: ptr::null_mut(), memory: ptr::null_mut(), version };
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
            check(api, (api.CreateSessionOptions)(&raw mut self.options))?;
            check(api, (api.SetIntraOpNumThreads)(self.options, 1))?;
            check(api, (api.SetInterOpNumThreads)(self.options, 1))?;
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
        let mut session = ptr::null_mut();
        // SAFETY: the model's bytes outlive the call, which copies what it keeps.
        check(self.api, unsafe {
            (self.api.CreateSessionFromArray)(
                self.env,
                model.as_ptr().cast(),
                model.len(),
                self.options,
                &raw mut session,
            )
        })?;
        let mut made = Session {
            runtime: self,
            session,
            input: self.buffer(&input.shape)?,
            input_name: CString::new(input.name)?,
            outputs: Vec::new(),
        };
        for port in outputs {
            made.outputs.push((CString::new(port.name)?, self.buffer(&port.shape)?));
        }
        Ok(made)
    }

    fn buffer(&self, shape: &[u32]) -> anyhow::Result<Buffer<'_>> {
        let axes: Vec<i64> = shape.iter().copied().map(i64::from).collect();
        let mut numbers = vec![0.0_f32; usize::try_from(axes.iter().product::<i64>())?].into_boxed_slice();
        let mut value = ptr::null_mut();
        // SAFETY: the tensor looks at `numbers`, whose heap place does not move and is freed after the tensor (see Drop).
        check(self.api, unsafe {
            (self.api.CreateTensorWithDataAsOrtValue)(
                self.memory,
                numbers.as_mut_ptr().cast::<c_void>(),
                size_of_val(&*numbers),
                axes.as_ptr(),
                axes.len(),
                ONNXTensorElementDataType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
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
        &mut self.input.numbers
    }

    /// The first output's numbers of the last run.
    pub(crate) fn first(&self) -> &[f32] {
        self.outputs.first().map_or(&[], |(_, buffer)| &buffer.numbers)
    }

    /// Runs the model on what the input holds.
    ///
    /// # Errors
    /// When the library refuses; with its words.
    pub(crate) fn run(&mut self) -> anyhow::Result<()> {
        // Ports are few and fixed; the arrays stay on the stack so that the peer's hot path allocates nothing of ours.
        const PORTS_MAX: usize = 4;
        ensure!(self.outputs.len() <= PORTS_MAX, "more than {PORTS_MAX} outputs");
        let mut names = [ptr::null(); PORTS_MAX];
        let mut values = [ptr::null_mut(); PORTS_MAX];
        for (i, (name, buffer)) in self.outputs.iter().enumerate() {
            (names[i], values[i]) = (name.as_ptr(), buffer.value);
        }
        let (input_name, input) = (self.input_name.as_ptr(), self.input.value.cast_const());
        // SAFETY: all names and tensors live in self; the counts are theirs; outputs are written to the bound buffers.
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
        })
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
            (self.api.ReleaseEnv)(self.env);
        }
    }
}
