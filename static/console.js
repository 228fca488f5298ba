// All that the console's pages do by themselves: local times, copying, live parts, keys. Without it, everything else works.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const say = (text) => { const status = document.getElementById("spoken"); if (status) status.textContent = text; };

  // Times. The server writes UTC; lists say how long ago, other places add this person's own time.
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  function times(within = document) {
    for (const time of all("time[datetime]", within)) {
      const at = new Date(time.dateTime);
      if (isNaN(at)) continue;
      if (time.dataset.relative !== undefined) {
        const seconds = Math.round((at - Date.now()) / 1000);
        const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units[3];
        time.textContent = Math.abs(seconds) < 2 ? "just now" : ago.format(seconds > 0 ? Math.round(seconds / size) : Math.trunc(seconds / size), unit);
        time.title = local.format(at);
      } else if (time.dataset.local !== undefined && !time.dataset.done && new Date().getTimezoneOffset() !== 0) {
        time.dataset.done = "1";
        time.append(` (${local.format(at)} your time)`);
      }
    }
  }
  times();
  setInterval(times, 5000);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.copy !== undefined) {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.dataset.value ?? source.textContent);
        say("Copied");
        const label = button.textContent;
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = label; }, 1500);
      } catch {
        getSelection().selectAllChildren(source);
        say("Selected; copy it with your keyboard");
      }
    }
    if (button.dataset.opens) document.getElementById(button.dataset.opens)?.showModal();
    if (button.dataset.closes !== undefined) button.closest("dialog")?.close();
  });

  // A format that is wrong is told as it is typed; the server judges again.
  for (const input of all("input[data-pattern]")) {
    const hint = document.getElementById(input.getAttribute("aria-describedby")?.split(" ")[0]);
    input.addEventListener("input", () => {
      const wrong = input.value !== "" && !new RegExp(input.dataset.pattern).test(input.value);
      input.setAttribute("aria-invalid", String(wrong));
      hint?.classList.toggle("error", wrong);
    });
  }

  // Live parts: fragments of the same page, asked for while somebody looks.
  let used = Date.now();
  for (const kind of ["pointermove", "keydown", "scroll", "focus"]) {
    addEventListener(kind, () => { used = Date.now(); }, { passive: true });
  }
  // The page is as it was at this time.
  function isNow(date) {
    const time = document.getElementById("as-of"), at = new Date(date);
    if (!time || !date || isNaN(at)) return;
    time.dateTime = at.toISOString();
    time.textContent = `${at.toISOString().slice(0, 19).replace("T", " ")} UTC`;
    delete time.dataset.done;
    times(time.parentElement);
  }
  const parse = (html) => { const box = document.createElement("template"); box.innerHTML = html; return box.content; };
  async function follow(part) {
    let last = Date.now();
    const held = [];
    for (;;) {
      await new Promise((done) => { setTimeout(done, 1000); });
      if (!part.isConnected) return;
      const pause = Date.now() - used < 60000 ? 3000 : 60000;
      if (document.hidden || Date.now() - last < pause) continue;
      last = Date.now();
      let answer;
      try {
        answer = await fetch(part.dataset.live, { headers: { "X-Fragment": "1" }, redirect: "error" });
      } catch { continue; }
      if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
        part.dataset.ended = "1";
        if (document.querySelector(".notice.ended")) return;
        const told = document.createElement("p");
        told.className = "notice bad ended";
        told.role = "alert";
        told.textContent = "This page is not kept current any more: you were signed out, or what it shows is no longer there. Reload it.";
        document.querySelector("main > .column").prepend(told);
        return;
      }
      if (answer.status !== 200 && answer.status !== 204) continue;
      const date = answer.headers.get("date");
      if (answer.status === 204) { isNow(date); continue; }
      const fresh = parse(await answer.text());
      times(fresh);
      if (part.dataset.rows === undefined) {
        const next = fresh.firstElementChild;
        // Whoever types, selects or reads on is not disturbed.
        if (!next || part.querySelector("details[open]") || part.contains(document.activeElement) && document.activeElement !== document.body) continue;
        part.replaceWith(next);
        isNow(date);
        if (next.dataset.state) {
          document.title = next.dataset.state + document.title.slice(document.title.indexOf(" · "));
          document.querySelector("link[rel=icon]").href = next.dataset.icon;
        }
        if (next.dataset.live) follow(next);
        return;
      }
      const box = fresh.firstElementChild;
      if (!box) continue;
      part.dataset.live = box.dataset.live ?? part.dataset.live;
      isNow(date);
      held.unshift(...box.children);
      const button = document.getElementById(part.dataset.rows);
      if (held.length && button) {
        button.hidden = false;
        // A row that opens nothing says that there is a gap.
        const n = held.filter((row) => row.classList.contains("linked")).length;
        const more = n < held.length ? " or more" : "";
        button.textContent = `Show ${n}${more} new event${n === 1 && !more ? "" : "s"}`;
        button.onclick = () => { part.closest("table").hidden = false; document.querySelector("#found .empty")?.remove(); part.prepend(...held.splice(0)); button.hidden = true; };
      }
    }
  }
  all("[data-live]").forEach(follow);
  // A search that goes on by itself, until it is stopped or has a page: what it finds is added to the list.
  async function goOn() {
    const onward = document.querySelector("a[data-onward]");
    const list = document.querySelector("#found tbody");
    if (!onward || !list || list.rows.length >= 50) return;
    let stopped = false;
    const stop = document.getElementById("stop-search");
    stop?.addEventListener("click", () => { stopped = true; stop.remove(); });
    let answer;
    try { answer = await fetch(onward.href, { headers: { "X-Fragment": "1" }, redirect: "error" }); } catch { return; }
    if (stopped || answer.status !== 200) return;
    const fresh = parse(await answer.text());
    times(fresh);
    const rows = fresh.querySelectorAll("tbody > tr");
    if (rows.length) list.closest("table").hidden = false;
    list.append(...rows);
    document.getElementById("progress").replaceWith(fresh.getElementById("progress"));
    goOn();
  }
  goOn();

  // Keys, unless switched off; never in fields.
  if (root.dataset.keys === "off") return;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, select, textarea, dialog");
    if (event.key === "Escape" && field && field.tagName !== "DIALOG") { field.blur(); return; }
    if (field) return;
    if (event.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) { event.preventDefault(); search.focus(); }
    } else if (event.key === "?") {
      document.getElementById("keys")?.showModal();
    } else if (event.key === "j" || event.key === "k") {
      const links = all("[data-list] a.cover");
      const at = links.indexOf(document.activeElement);
      if (at < 0 && !document.activeElement?.closest("[data-list]")) return;
      links[Math.min(links.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
    }
  });
})();
