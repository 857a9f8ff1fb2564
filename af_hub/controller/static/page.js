// Keeps the list of Dask clusters as it is now, and leaves alone what a person is doing there: focus, open details, place.
// Where no script runs, the link "Reload" does it.
"use strict";
(() => {
  const SECONDS = 3;
  const SLOWEST = 30;
  const list = document.getElementById("clusters");
  const live = document.getElementById("live");
  const news = document.getElementById("news");
  const token = document.querySelector('meta[name="csrf-token"]').content;
  let pause = SECONDS;
  let timer = 0;

  /** Times in the zone and the words of whoever looks; the server writes UTC. */
  function localise(root) {
    for (const time of root.querySelectorAll("time")) {
      const at = new Date(time.dateTime);
      time.textContent = time.className === "at"
        ? at.toLocaleTimeString()
        : at.toLocaleString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
    }
  }

  const alike = (here, there) => here.nodeName === there.nodeName && (here.id || "") === (there.id || "");

  /** Make `here` look like `there`. An element that stays is the same element: what is open or has the focus stays so. */
  function become(here, there) {
    if (here.nodeType !== Node.ELEMENT_NODE) {
      if (here.data !== there.data) here.data = there.data;
      return;
    }
    const keep = (name) => name === "open";
    for (const { name } of [...here.attributes]) if (!keep(name) && !there.hasAttribute(name)) here.removeAttribute(name);
    for (const { name, value } of there.attributes) if (!keep(name) && here.getAttribute(name) !== value) here.setAttribute(name, value);
    becomeInside(here, there);
  }

  function becomeInside(here, there) {
    let at = here.firstChild;
    for (const child of [...there.childNodes]) {
      const kept = ahead(at, child);
      if (!kept) {
        here.insertBefore(child, at);
        continue;
      }
      // Nothing is ever moved, which would take the focus away: what lies between is no longer wanted.
      while (at !== kept) at = dropped(at);
      become(kept, child);
      at = kept.nextSibling;
    }
    while (at) at = dropped(at);
  }

  function ahead(at, wanted) {
    while (at && !alike(at, wanted)) at = at.nextSibling;
    return at;
  }

  function dropped(node) {
    const next = node.nextSibling;
    node.remove();
    return next;
  }

  /** Line breaks between elements, which nobody sees, would be taken for what changed. */
  function withoutBreaks(root) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const found = [];
    while (walker.nextNode()) if (/^\s*\n\s*$/.test(walker.currentNode.data)) found.push(walker.currentNode);
    for (const node of found) node.remove();
    return root;
  }

  const states = () => new Map([...list.querySelectorAll("article")].map((one) => [one.id, one.dataset]));

  /** Say aloud, to whom hears the page, what is another state now. */
  function tell(before) {
    const said = [];
    for (const [id, { name, state }] of states()) if (before.get(id) !== state) said.push(`${name} is ${state}.`);
    if (said.length) news.textContent = said.join(" ");
  }

  function show(text) {
    const there = withoutBreaks(new DOMParser().parseFromString(text, "text/html").body);
    const before = new Map([...states()].map(([id, { state }]) => [id, state]));
    const focused = list.contains(document.activeElement);
    localise(there);
    becomeInside(list, there);
    tell(before);
    if (focused && !list.contains(document.activeElement)) document.querySelector("h1").focus();
  }

  function say(text, stale, link) {
    if (live.dataset.said === text) return;
    live.dataset.said = text;
    live.className = stale ? "stale" : "";
    live.textContent = text;
    if (!link) return;
    const way = Object.assign(document.createElement("a"), { href: location.pathname, textContent: link, className: "button" });
    live.append(" ", way);
  }

  async function refresh() {
    clearTimeout(timer);
    if (document.hidden) return;
    let wait = SECONDS;
    try {
      const answer = await fetch(list.dataset.list, { headers: { "X-CSRF-Token": token }, redirect: "error", signal: AbortSignal.timeout(10_000) });
      if (answer.status === 401 || answer.status === 403) return say("You are no longer logged in here.", true, "Log in again");
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      show(await answer.text());
      pause = SECONDS;
      say("Updates by itself", false);
    } catch {
      wait = pause;
      pause = Math.min(2 * pause, SLOWEST);
      say("The controller does not answer; this is how it was. Trying again.", true, "Reload");
    }
    timer = setTimeout(refresh, 1000 * wait);
  }

  localise(withoutBreaks(list));
  document.addEventListener("visibilitychange", refresh);
  refresh();
})();
