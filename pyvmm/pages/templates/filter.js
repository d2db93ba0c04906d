"use strict";
const form = document.querySelector("form");

// A link into a closed part opens it.
function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target; part; part = part.parentElement)
    if (part.localName === "details") part.open = true;
  target.scrollIntoView({ block: target.localName === "tr" ? "center" : "start" });
}
addEventListener("hashchange", openTarget);
openTarget();

function filter() {
  const value = (name) => (form.elements[name] ? form.elements[name].value : "");
  const checked = (name) => Boolean(form.elements[name] && form.elements[name].checked);
  const text = value("text").trim().toLowerCase();
  const hosts = new Set();
  for (const each of document.querySelectorAll("[data-host]")) {
    const { cpu, kernel } = each.dataset;
    if (cpu === undefined) continue;
    each.hidden = Boolean(
      (value("cpu") && cpu !== value("cpu")) || (value("kernel") && kernel !== value("kernel")),
    );
    if (!each.hidden) hosts.add(each.dataset.host);
  }
  for (const cell of document.querySelectorAll("td[data-host]"))
    cell.hidden = !hosts.has(cell.dataset.host);
  let shown = 0;
  const main = document.querySelector("table.matrix") || document.querySelector("table.results");
  for (const row of document.querySelectorAll("tr[data-check]")) {
    row.hidden = Boolean(
      (value("cause") && !row.dataset.causes.split(" ").includes(value("cause"))) ||
        (text && !row.dataset.check.toLowerCase().includes(text)) ||
        (checked("differs") && row.dataset.differs === "") ||
        (checked("changed") && row.dataset.changed === ""),
    );
    if (!row.hidden && row.closest("table") === main) shown += 1;
  }
  form.elements.count.value = `${shown} rows` + (hosts.size ? `, ${hosts.size} hosts` : "");
}

if (form) {
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
