// What makes the pages quicker where there is JavaScript: keys, dialogs over a page, copying, hiding, live parts. Each page works without it.
"use strict";

(() => {
  const one = (selector, from = document) => from.querySelector(selector);
  const dialog = one("#dialog"), help = one("#help");
  let opener = null, went = 0;

  const show = (box, from) => {
    opener = from || document.activeElement;
    box.showModal();
  };
  for (const box of document.querySelectorAll("dialog")) {
    box.addEventListener("close", () => {
      if (box === dialog) one("[data-dialog-content]", box).replaceChildren();
      if (opener && opener.isConnected) opener.focus();
      opener = null;
    });
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  }

  // A link to a page of one thing to do opens that page's content over this one.
  const open = async (link) => {
    const reply = await fetch(link.href, { headers: { "X-Signalbox-Dialog": "1" } });
    if (reply.redirected && new URL(reply.url).pathname === "/step-up" && window.proveAgain) return window.proveAgain(() => open(link));
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const part = one("[data-dialog-part]", page), title = one("h1", page);
    if (!reply.ok || reply.redirected || !part || !title) { location.assign(link.href); return; }
    title.id = "dialog-title";
    dialog.removeAttribute("aria-label");
    dialog.setAttribute("aria-labelledby", title.id);
    one("[data-dialog-content]", dialog).replaceChildren(document.adoptNode(title), document.adoptNode(part));
    arm(dialog);
    show(dialog, link);
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-dialog]");
    if (link && dialog && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
      event.preventDefault();
      open(link).catch(() => location.assign(link.href));
      return;
    }
    const close = event.target.closest("[data-close]");
    if (close && close.closest("dialog")) {
      event.preventDefault();
      close.closest("dialog").close();
      return;
    }
    for (const menu of document.querySelectorAll("details[data-menu][open]")) if (!menu.contains(event.target)) menu.open = false;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const menu of document.querySelectorAll("details[data-menu][open]")) { menu.open = false; one("summary", menu).focus(); }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, [contenteditable]") || one("dialog[open]")) return;
    if (Date.now() - went < 1500) {
      went = 0;
      const link = /^[a-z]$/.test(event.key) && one(`a[data-go="${event.key}"]`);
      if (link) { event.preventDefault(); link.click(); return; }
    }
    const search = one(`[data-key="${CSS.escape(event.key)}"]`);
    if (search) { event.preventDefault(); search.focus(); search.select(); }
    else if (event.key === "?" && help) { event.preventDefault(); show(help); }
    else if (event.key === "g") went = Date.now();
  });

  // A menu that Tab leaves closes behind it.
  for (const menu of document.querySelectorAll("details[data-menu]")) {
    menu.addEventListener("focusout", ({ relatedTarget: to }) => { if (to && !menu.contains(to)) menu.open = false; });
  }

  // arm gives the parts of a page, or of a dialog, what only a script can do.
  const arm = (root) => {
    if (window.ClipboardItem) for (const button of root.querySelectorAll("[data-copy-answer]")) button.hidden = false;
    for (const button of root.querySelectorAll("[data-copy]")) {
      if (!navigator.clipboard) continue;
      button.hidden = false;
      button.onclick = async () => {
        const label = button.textContent;
        try {
          await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
          button.textContent = "Copied";
        } catch { button.textContent = "The browser did not allow it"; }
        setTimeout(() => { button.textContent = label; }, 2000);
      };
    }
    for (const button of root.querySelectorAll("[data-wait]")) {
      const box = document.getElementById(button.dataset.wait);
      button.disabled = !box.checked;
      box.onchange = () => { button.disabled = !box.checked; };
    }
    for (const box of root.querySelectorAll("[data-hide]")) {
      const until = Date.now() + 1000 * box.dataset.hide, told = one("[data-countdown]", box);
      const tick = () => {
        const left = Math.ceil((until - Date.now()) / 1000);
        if (!box.isConnected) return;
        if (left > 0) { told.textContent = `It hides in ${left} s.`; setTimeout(tick, 250); return; }
        if (box.contains(document.activeElement)) one("a", box).focus();
        for (const secret of box.querySelectorAll("pre, [data-copy]")) secret.remove();
        told.textContent = "It is hidden again.";
      };
      tick();
    }
  };
  arm(document);

  // What the search finds, as one types: the part of its page, below the field. Arrows go through it, Escape takes it away.
  const field = one("#search"), found = one("#found"), said = one("#found-said");
  if (field && found) {
    let turn = 0;
    const empty = () => { turn++; found.replaceChildren(); said.textContent = ""; };
    field.addEventListener("input", () => {
      const mine = ++turn;
      if (!field.value.trim()) { empty(); return; }
      setTimeout(async () => {
        if (mine !== turn) return;
        const reply = await fetch("/search?q=" + encodeURIComponent(field.value), { headers: { "HX-Request": "true" } });
        const page = new DOMParser().parseFromString(await reply.text(), "text/html");
        if (mine !== turn || !reply.ok || reply.redirected) return;
        found.replaceChildren(...page.body.childNodes);
        said.textContent = one("[data-said]", found).textContent;
      }, 200);
    });
    field.form.addEventListener("keydown", (event) => {
      const stops = [field, ...found.querySelectorAll("a")], at = stops.indexOf(document.activeElement);
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && stops[at + step]) { event.preventDefault(); stops[at + step].focus(); }
      else if (event.key === "Escape" && found.firstChild) { event.preventDefault(); field.focus(); empty(); }
    });
    field.form.addEventListener("focusout", (event) => { if (!field.form.contains(event.relatedTarget)) empty(); });
  }

  // A secret that was shown must not come back with the browser's Back.
  addEventListener("pagehide", () => { for (const secret of document.querySelectorAll(".reveal pre")) secret.remove(); });
  addEventListener("pageshow", (event) => { if (event.persisted && one("[data-hide], .once")) location.reload(); });

  // Live parts are read again in place when the server says that they are stale; morphing keeps focus and scroll.
  // Focus stays in sight as columns grow
  const read = async ({ id, dataset }) => {
    const at = document.activeElement, { left, right, top } = at.getBoundingClientRect();
    await htmx.ajax("GET", dataset.from || location.href, { target: "#" + id, select: "#" + id, swap: "outerMorph", headers: { "X-Signalbox-Unattended": "1" } });
    if (left >= 0 && right <= innerWidth && top >= 0 && top < innerHeight && at === document.activeElement) at.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  const parts = [...document.querySelectorAll("[data-live][id]")];
  if (parts.length && window.EventSource && window.htmx) {
    const topics = new Set(parts.flatMap((part) => part.dataset.live.split(" ")));
    let source = null, missed = new Set();
    const stale = (topic) => {
      if (one("dialog[open]")) { missed.add(topic); return; }
      for (const part of document.querySelectorAll("[data-live][id]")) {
        if ((!topic || part.dataset.live.split(" ").includes(topic)) && !part.hasAttribute("data-paused")) read(part);
      }
    };
    const listen = () => {
      if (source) return;
      source = new EventSource("/live?topics=" + [...topics].join(","));
      source.addEventListener("stale", (event) => stale(event.data));
      source.addEventListener("open", () => { document.documentElement.dataset.live = "on"; });
    };
    const leave = () => { if (source) source.close(); source = null; };
    // A browser has few connections to one server: a page that nobody sees lets go of its own, and looks again when it is seen.
    document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else { listen(); stale(""); } });
    addEventListener("pagehide", leave);
    document.addEventListener("close", () => { const late = missed; missed = new Set(); late.forEach(stale); }, true);
    if (!document.hidden) listen();
    for (const button of document.querySelectorAll("[data-pause]")) {
      button.hidden = false;
      button.onclick = () => {
        const part = document.getElementById(button.dataset.pause), paused = part.toggleAttribute("data-paused");
        button.setAttribute("aria-pressed", paused);
        if (!paused) read(part);
      };
    }
  }
})();
