// Fills the forms of passkeys with the browser's answer. Everything else works without it.
"use strict";

(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

  const decode = (options) => {
    options.challenge = bytes(options.challenge);
    if (options.user) options.user.id = bytes(options.user.id);
    for (const list of [options.allowCredentials, options.excludeCredentials]) {
      for (const one of list || []) one.id = bytes(one.id);
    }
    return options;
  };

  const encode = (answer) => {
    const response = { clientDataJSON: text(answer.response.clientDataJSON) };
    for (const part of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (answer.response[part]) response[part] = text(answer.response[part]);
    }
    if (answer.response.getTransports) response.transports = answer.response.getTransports();
    return JSON.stringify({ id: answer.id, rawId: text(answer.rawId), type: answer.type, response, clientExtensionResults: answer.getClientExtensionResults() });
  };

  const ask = async (form) => {
    if (!window.PublicKeyCredential) throw new Error("This browser cannot use passkeys here. They need a page that was opened over https, or on localhost.");
    const reply = await fetch(form.dataset.ask, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (reply.redirected) { location.assign(reply.url); return; }
    if (!reply.ok) throw new Error(await reply.text());
    const { publicKey } = await reply.json();
    const answer = await navigator.credentials[form.dataset.passkey]({ publicKey: decode(publicKey) });
    form.elements.passkey.value = encode(answer);
    form.dataset.answered = "1";
    form.requestSubmit();
  };

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.addEventListener("submit", async (event) => {
      if (form.dataset.answered) { delete form.dataset.answered; return; } // on its way, with the answer
      event.preventDefault();
      const error = form.querySelector("[data-error]"), button = form.querySelector("button");
      error.textContent = "";
      button.disabled = true;
      try {
        await ask(form);
      } catch (e) {
        error.textContent = e.name === "NotAllowedError" ? "The browser gave no passkey: it was cancelled, took too long, or there is none here." :
          e.name === "InvalidStateError" ? "This device has a passkey for you already." : e.message;
      } finally {
        button.disabled = false;
      }
    });
  }
})();
