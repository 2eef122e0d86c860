// Comfort only: every page works without it.
"use strict";

// A refresh that nobody asked for is no sign that somebody is there: the session's idle time goes on.
document.addEventListener("htmx:configRequest", (event) => {
  const by = event.detail.triggeringEvent;
  if (by && by.type && by.type.startsWith("sse:")) event.detail.headers["X-Refresh"] = "1";
});

// "/" goes to the search, as in most consoles.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.querySelector("input[type=search]");
  if (search) { event.preventDefault(); search.focus(); search.select(); }
});

// On a narrow screen the row of pages scrolls: the one that is open is to be seen.
document.addEventListener("DOMContentLoaded", () => {
  const here = document.querySelector(".bar nav [aria-current]");
  if (here) here.scrollIntoView({ inline: "center", block: "nearest" });
});
