// Photographs in as many requests as the limits of the service need, and the result of each.
import * as api from "/static/api.js";

const RETRIES = 5, LONGEST_WAIT_S = 60, FORM_BYTES = 20_000;

// Lists of indices of files: those of one request. Files that are too large for the service are in none.
export function batchesOf(files, limits) {
  const batches = [];
  let bytes = Infinity;
  files.forEach((file, i) => {
    if (tooLarge(file, limits)) return;
    const last = batches[batches.length - 1];
    if (last && last.length < limits.max_files && bytes + file.size <= limits.max_request_bytes - FORM_BYTES) {
      last.push(i);
      bytes += file.size;
    } else {
      batches.push([i]);
      bytes = file.size;
    }
  });
  return batches;
}

const tooLarge = (file, limits) => file.size > Math.min(limits.max_upload_bytes, limits.max_request_bytes - FORM_BYTES);

// Sends all files and returns a list: for each file an item of the response's results, or one with a problem.
// `onBatch` is told the indices that are sent, `onResults` the list so far, and `onWait` the seconds until a busy service is tried again.
export async function locateAll(files, options, limits, signal, { onBatch, onResults, onWait }) {
  const results = files.map((file) => (tooLarge(file, limits) ? failure(
    `A photograph may have at most ${limits.max_upload_bytes / 1e6} MB; this one has ${(file.size / 1e6).toFixed(1)} MB.`) : null));
  for (const batch of batchesOf(files, limits)) {
    onBatch(batch);
    try {
      const response = await patiently(() => api.locate(batch.map((i) => files[i]), options, signal), signal, onWait);
      for (const item of response.results) for (const at of item.photographs) results[batch[at]] = item;
    } catch (error) {
      if (error.name === "AbortError") throw error;
      const each = error.problems || (error.photograph === 0 ? [{ detail: error.message }] : null);
      if (each) batch.forEach((i, at) => { results[i] = failure((each[at] || each[0]).detail); });
      else if (batch.length === files.length) throw error;  // not about the photographs: there is nothing else to show
      else batch.forEach((i) => { results[i] = failure(error.message); });
      if (error.status === 401) throw error;
    }
    onResults(results);
  }
  return results;
}

const failure = (detail) => ({ answer: null, problem: { detail } });

// A service that is busy says when to try again.
async function patiently(request, signal, onWait) {
  for (let tries = 0; ; tries++) {
    try {
      return await request();
    } catch (error) {
      if (tries === RETRIES || !error.retryAfter || error.retryAfter > LONGEST_WAIT_S) throw error;
      onWait(error.retryAfter);
      await new Promise((done, stop) => {
        const timer = setTimeout(done, 1000 * error.retryAfter);
        signal.addEventListener("abort", () => { clearTimeout(timer); stop(signal.reason); }, { once: true });
      });
    }
  }
}
