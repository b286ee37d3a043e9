// The inbox without a reload: new messages, explanations beside them, a search while typing. The pages work without it.
"use strict";

const body = document.body;
const root = body.dataset.root || "";
const byId = (id) => document.getElementById(id);

function localTimes(within) {
  const today = new Date().toDateString();
  for (const time of within.querySelectorAll("time[datetime]:not([title])")) {
    const when = new Date(time.dateTime);
    time.title = time.textContent;
    if ("full" in time.dataset) time.textContent = `${when.toLocaleString()} (${time.title})`;
    else time.textContent = when.toDateString() === today ? when.toLocaleTimeString() : when.toLocaleString();
  }
}

function pieces(html) {
  const holder = document.createElement("template");
  holder.innerHTML = html;
  return holder.content;
}

// A long text is folded; the page scrolls better past its beginning.
function fold(within) {
  for (const bubble of within.querySelectorAll(".bubble:not(.clamped, .unfolded)")) {
    if (bubble.scrollHeight < 640 || !bubble.closest(".message.accepted")) continue;
    bubble.classList.add("clamped");
    const unfold = document.createElement("button");
    unfold.className = "unfold";
    unfold.textContent = "Show all";
    unfold.addEventListener("click", () => { bubble.classList.replace("clamped", "unfolded"); unfold.remove(); });
    bubble.after(unfold);
  }
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copying is not allowed here";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

// --- Live ---------------------------------------------------------------------------------------------------------

const chat = byId("chat");
const most = 500;
let last = Number(body.dataset.last || 0);
let round = 0;
let unseen = 0;

const atEnd = () => chat.scrollHeight - chat.scrollTop - chat.clientHeight < 120;
const toEnd = () => { chat.scrollTop = chat.scrollHeight; };
const query = () => new URLSearchParams(location.search).get("q") || "";

function showUnseen() {
  byId("newer").hidden = unseen === 0;
  byId("newer").textContent = unseen === 1 ? "1 new message ↓" : `${unseen} new messages ↓`;
}

function take(news) {
  const messages = byId("messages");
  const stay = !atEnd();
  if (news.anew) messages.replaceChildren();
  const fresh = pieces(news.messages);
  localTimes(fresh);
  for (const one of fresh.querySelectorAll(".message")) one.classList.add("fresh");
  messages.append(fresh);
  fold(messages);
  while (messages.children.length > most) messages.firstElementChild.remove();
  byId("robots").replaceChildren(pieces(news.robots));
  const open = document.querySelector(".spaces")?.open;
  byId("status").replaceChildren(pieces(news.status));
  if (open) document.querySelector(".spaces").open = true;
  byId("nothing").hidden = messages.children.length > 0;
  last = news.last;
  if (!stay) toEnd();
  else if (news.count) { unseen += news.count; showUnseen(); }
}

async function follow() {
  const mine = ++round;
  const shown = byId("live");
  shown.hidden = false;
  let pauseMs = 1000;
  while (mine === round) {
    try {
      const answer = await fetch(`${root}/stream?wait=1&after=${last}&q=${encodeURIComponent(query())}`);
      if (mine !== round) return;
      if (!answer.ok) throw new Error(String(answer.status));
      take(await answer.json());
      shown.classList.remove("off");
      shown.lastElementChild.textContent = "live";
      pauseMs = 1000;
    } catch {
      shown.classList.add("off");
      shown.lastElementChild.textContent = "offline";
      await new Promise((done) => { setTimeout(done, pauseMs); });
      pauseMs = Math.min(pauseMs * 2, 10000);
    }
  }
}

// --- Search while typing --------------------------------------------------------------------------------------------

async function visit(url) {
  const mine = ++round;
  const answer = await fetch(url);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (mine !== round) return;
  history.replaceState(null, "", url);
  chat.replaceChildren(...page.getElementById("chat").childNodes);
  byId("robots").replaceChildren(...page.getElementById("robots").childNodes);
  document.querySelector(".filters").replaceWith(page.querySelector(".filters"));
  last = Number(page.body.dataset.last);
  unseen = 0;
  localTimes(chat);
  fold(chat);
  toEnd();
  if (page.body.dataset.live) follow();
}

// --- Explanations -----------------------------------------------------------------------------------------------------

const wide = window.matchMedia("(min-width: 1100px)");

function choose(number) {
  document.querySelector(".message.chosen")?.classList.remove("chosen");
  if (number) byId(`m${number}`)?.classList.add("chosen");
}

async function explain(link) {
  const answer = await fetch(`${link.href}?panel=1`);
  if (!answer.ok) { location.href = link.href; return; }
  const panel = byId("panel");
  panel.replaceChildren(pieces(await answer.text()));
  localTimes(panel);
  panel.hidden = false;
  panel.scrollTop = 0;
  choose(link.pathname.split("/").pop());
  panel.querySelector("[data-close]").focus({ preventScroll: true });
}

function closePanel() {
  byId("panel").hidden = true;
  choose(null);
}

document.addEventListener("click", (event) => {
  const target = event.target;
  const copier = target.closest("[data-copy]");
  if (copier) { copy(byId(copier.dataset.copy).textContent, copier); return; }
  if (target.closest("[data-close]")) { closePanel(); return; }
  const link = target.closest("a[data-panel]");
  if (link && chat && wide.matches && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) {
    event.preventDefault();
    explain(link);
    return;
  }
  if (target.closest("#newer")) { toEnd(); return; }
  const example = target.closest("pre.copy");
  if (example && !String(getSelection())) copy(example.textContent, example);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chat && !byId("panel").hidden) closePanel();
});

// --- Beginning --------------------------------------------------------------------------------------------------------

localTimes(document);

if (chat) {
  const form = document.querySelector(".search");
  let typing;
  const go = () => visit(`${root}/${form.q.value ? `?q=${encodeURIComponent(form.q.value)}` : ""}`);
  form.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); go(); });
  form.q.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(go, 250); });

  chat.addEventListener("scroll", () => { if (unseen && atEnd()) { unseen = 0; showUnseen(); } }, { passive: true });

  const pictures = byId("pictures");
  pictures.hidden = false;
  pictures.addEventListener("click", () => {
    const on = pictures.getAttribute("aria-pressed") === "true";
    document.cookie = `pictures=${on ? 0 : 1}; path=${root || "/"}; SameSite=Strict; max-age=31536000`;
    location.reload();
  });

  const reset = byId("reset");
  reset.hidden = false;
  reset.addEventListener("click", async () => {
    if (!confirm("Forget all messages, faults and mutes of this sandbox?")) return;
    closePanel();
    await fetch(`${root}/_sandbox/reset`, { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
  });

  fold(chat);
  toEnd();
  if (body.dataset.live) follow();
}
