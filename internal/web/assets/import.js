// Files stay chosen between the look at an import and the import itself: the answer's parts take the place of the page's, and the form stays.
"use strict";

document.addEventListener("submit", async (event) => {
  const form = event.target, button = event.submitter;
  if (event.defaultPrevented || !form.matches("[data-import]")) return;
  event.preventDefault();
  delete form.dataset.proved;
  const body = new FormData(form, button), result = document.querySelector("#import-result");
  button.disabled = true;
  result.setAttribute("aria-busy", "true");
  try {
    const reply = await fetch(form.action, { method: "POST", body });
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const fresh = page.querySelector("#import-result");
    if (!fresh || reply.redirected) { location.assign("/import"); return; }
    const alert = page.querySelector("#import-alert"), wrong = page.querySelector("#files-error");
    if (wrong) alert.append(wrong);
    for (const field of page.querySelectorAll("#import .error:not(#files-error)")) alert.append(field);
    document.querySelector("#import-alert").replaceChildren(...[...alert.childNodes].map((one) => document.adoptNode(one)));
    result.replaceChildren(...[...fresh.childNodes].map((one) => document.adoptNode(one)));
    result.focus();
  } catch {
    document.querySelector("#import-alert").textContent = "The server could not be reached. Nothing was imported as far as this page knows; look again.";
  }
  button.disabled = false;
  result.removeAttribute("aria-busy");
});
