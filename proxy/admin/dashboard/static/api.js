// Calls of weir's AdminService over Connect's JSON (connectrpc.com/docs/protocol).
// A single call is a POST whose body and answer are the message as protojson:
// numbers of 64 bits are strings, times RFC 3339, and what has its zero value is
// left out. A stream's answer is a row of envelopes: a byte of flags, four bytes
// of length (big-endian), the message; flag 2 marks the last, which holds the
// error if there is one.

const SERVICE = 'weir.v1.AdminService/';
const TOKEN_KEY = 'weir-admin-token';
const CALL_TIMEOUT_MS = 35_000; // a search may take half a minute
const MAX_ENVELOPE_BYTES = 64 << 20; // no message of weir comes near it

/** An error that weir answered, or that kept its answer away ("unreachable"). */
export class CallError extends Error {
  constructor(code, message) {
    super(message);
    this.name = 'CallError';
    this.code = code;
  }
}

/** The token lives as long as the tab, and is sent to nobody but weir. */
export const token = {
  get: () => sessionStorage.getItem(TOKEN_KEY) ?? '',
  set: (value) => (value ? sessionStorage.setItem(TOKEN_KEY, value) : sessionStorage.removeItem(TOKEN_KEY)),
};

function headers(contentType) {
  const all = { 'Content-Type': contentType, 'Connect-Protocol-Version': '1' };
  if (token.get()) all.Authorization = `Bearer ${token.get()}`;
  return all;
}

async function post(name, contentType, body, signal) {
  try {
    return await fetch(SERVICE + name, {
      method: 'POST', headers: headers(contentType), body, signal, cache: 'no-store', credentials: 'omit', redirect: 'error',
    });
  } catch (err) {
    if (signal?.aborted && signal.reason?.name !== 'TimeoutError') throw err;
    const why = signal?.aborted ? 'weir did not answer in time' : 'weir cannot be reached';
    throw new CallError('unreachable', `${why}; nothing is known of what became of the call`);
  }
}

/** failure reads the error of an answer that is no 200. */
async function failure(response) {
  const text = await response.text().catch(() => '');
  try {
    const { code, message } = JSON.parse(text);
    if (code) return new CallError(code, message ?? code);
  } catch {
    // Something between weir and here answered.
  }
  const code = response.status === 401 ? 'unauthenticated' : 'unreachable';
  return new CallError(code, `HTTP ${response.status} instead of weir's answer`);
}

/** call makes a single call and returns its answer. It throws a CallError. */
export async function call(name, request = {}) {
  const response = await post(name, 'application/json', JSON.stringify(request), AbortSignal.timeout(CALL_TIMEOUT_MS));
  if (!response.ok) throw await failure(response);
  try {
    return await response.json();
  } catch {
    throw new CallError('unreachable', 'the answer was cut off');
  }
}

/**
 * stream makes a call that is answered by many messages and gives each to
 * onMessage, waiting for it. It returns when the stream has ended well, and
 * throws a CallError, or signal's reason once that is aborted.
 */
export async function stream(name, request, onMessage, signal) {
  const response = await post(name, 'application/connect+json', envelope(request), signal);
  if (!response.ok) throw await failure(response);
  const reader = response.body.getReader();
  let buffered = new Uint8Array(0);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new CallError('unreachable', 'the stream broke off');
      buffered = joined(buffered, value);
      let piece;
      while ((piece = opened(buffered))) {
        buffered = buffered.subarray(piece.size);
        if (piece.last) {
          if (piece.message.error) throw new CallError(piece.message.error.code, piece.message.error.message ?? '');
          return;
        }
        await onMessage(piece.message);
      }
    }
  } catch (err) {
    if (err instanceof CallError || signal?.aborted) throw err;
    throw new CallError('unreachable', 'the connection broke');
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** envelope is a request as a stream's only message. */
function envelope(request) {
  const message = new TextEncoder().encode(JSON.stringify(request));
  const out = new Uint8Array(5 + message.length);
  new DataView(out.buffer).setUint32(1, message.length);
  out.set(message, 5);
  return out;
}

/** opened takes the first envelope off bytes, if all of it is there. */
function opened(bytes) {
  if (bytes.length < 5) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const length = view.getUint32(1);
  if (length > MAX_ENVELOPE_BYTES) throw new CallError('unreachable', 'the answer is no stream of weir');
  if (bytes.length < 5 + length) return null;
  const text = new TextDecoder().decode(bytes.subarray(5, 5 + length));
  return { size: 5 + length, last: (view.getUint8(0) & 2) !== 0, message: JSON.parse(text) };
}

function joined(a, b) {
  if (a.length === 0) return b;
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
