// Asks for a fresh proof over the page, so that nothing typed is lost, and goes on with the act that wanted it. Without it the step-up is a page.
"use strict";

(() => {
  const box = document.querySelector("#proof");
  if (!box) return;
  const part = box.querySelector("[data-proof-part]");
  const mine = { "X-Signalbox-Person": box.dataset.person }; // goes with redirects too
  let then = null;

  // fill shows the step-up page in the dialog. Its ids get a prefix: the page below has ids of its own.
  const fill = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html"), main = page.querySelector("main"), title = page.querySelector("h1");
    if (!main || !title || !main.querySelector('form[action^="/step-up"]')) return false;
    main.querySelector("header")?.remove();
    main.querySelectorAll("noscript").forEach((one) => one.remove());
    title.id = "title";
    for (const one of main.querySelectorAll("[id]")) one.id = "proof-" + one.id;
    for (const name of ["for", "aria-describedby", "aria-labelledby"]) {
      for (const one of main.querySelectorAll(`[${name}]`)) one.setAttribute(name, one.getAttribute(name).split(" ").map((id) => "proof-" + id).join(" "));
    }
    const scripts = [...main.querySelectorAll("script[src]")].map((one) => { one.remove(); return one.getAttribute("src"); });
    part.replaceChildren(...[...main.childNodes].map((one) => document.adoptNode(one)));
    for (const src of scripts) { // a parsed script does not run
      const script = document.createElement("script");
      script.src = src;
      part.append(script);
    }
    if (!box.open) box.showModal();
    part.querySelector("[autofocus], input:not([type=hidden]), button")?.focus();
    return true;
  };

  const current = async (reply) => {
    const token = await reply.text();
    for (const field of document.querySelectorAll('input[name="form"]')) field.value = token;
  };

  // proveAgain asks for a proof, and calls next once it was given.
  window.proveAgain = async (next) => {
    then = next;
    const reply = await fetch("/step-up?next=" + encodeURIComponent(location.pathname));
    if (!fill(await reply.text())) location.assign(reply.url);
  };

  box.addEventListener("close", () => part.replaceChildren());
  box.addEventListener("submit", async (event) => {
    const form = event.target, path = new URL(form.action).pathname;
    if (event.defaultPrevented || (path !== "/step-up" && path !== "/step-up/passkey")) return; // single sign-on leads elsewhere and comes back
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form));
    body.set("next", "/step-up/fresh");
    const reply = await fetch(form.action, { method: "POST", body, headers: mine });
    if (reply.ok && new URL(reply.url).pathname === "/step-up/fresh") {
      await current(reply);
      const next = then;
      box.close();
      if (next) next();
    } else if (reply.status === 409) location.reload(); // somebody else is signed in now
    else if (!fill(await reply.text())) location.assign(reply.url);
  });

  // A form whose act wants a fresh proof is sent only when there is one.
  document.addEventListener("submit", async (event) => {
    const form = event.target, button = event.submitter;
    if (event.defaultPrevented || form.method !== "post" || !form.elements.proof || form.dataset.proved) return;
    event.preventDefault();
    const send = () => { form.dataset.proved = "1"; form.requestSubmit(button); };
    try {
      const reply = await fetch("/step-up/fresh", { headers: mine });
      if (reply.status === 403) { await window.proveAgain(send); return; }
      if (reply.ok && !reply.redirected) await current(reply);
    } catch { /* the server says what is wrong */ }
    send();
  });
})();
