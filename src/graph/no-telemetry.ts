// ONNX Runtime's official builds (1.29 and later, Linux and macOS too) report model names, hashes and timings to their vendor
// unless this variable is set before the library loads. Nothing leaves the data owner's device: import this before the runtime.
// Zone: edge and owner. https://github.com/microsoft/onnxruntime/pull/27379
process.env.ORT_DISABLE_TELEMETRY = '1';
