// A secret can go to the clipboard without being shown: the answer to its form is copied and put nowhere else.
"use strict";

document.addEventListener("submit", async (event) => {
  if (!event.submitter || !event.submitter.matches("[data-copy-answer]")) return;
  event.preventDefault();
  const form = event.target, told = form.querySelector("[data-told]"), body = new URLSearchParams(new FormData(form, event.submitter));
  const text = fetch(form.action, { method: "POST", body }).then(async (reply) => {
    if (!reply.ok || !/^text\/plain/.test(reply.headers.get("Content-Type"))) throw 0;
    return new Blob([await reply.text()], { type: "text/plain" });
  });
  try {
    await navigator.clipboard.write([new ClipboardItem({ "text/plain": text })]);
    told.textContent = "Copied. It stays on the clipboard until something else is.";
  } catch { told.textContent = "Not copied. Reveal it to see why."; }
});
