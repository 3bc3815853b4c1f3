// Search in pages that are opened from the disk, where a browser starts no workers: the same work, done in a hidden frame.
"use strict";
if (location.protocol === "file:") {
  const load = (page, address) => new Promise((done, failed) => {
    const script = page.createElement("script");
    script.src = address;
    script.onload = done;
    script.onerror = failed;
    page.body.append(script);
  });
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe"), url = new URL(address, document.baseURI).href;
      frame.hidden = true;
      this.ready = new Promise((done) => { frame.onload = done; }).then(() => {
        this.inner = frame.contentWindow;
        this.inner.postMessage = (data) => setTimeout(() => this.dispatchEvent(new MessageEvent("message", {data})));
        this.inner.importScripts = (...scripts) =>
          scripts.reduce((before, script) => before.then(() => load(this.inner.document, script)), Promise.resolve());
        return load(this.inner.document, url);
      });
      document.body.append(frame);
    }
    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new this.inner.MessageEvent("message", {data})));
    }
    terminate() {}
  };
}
