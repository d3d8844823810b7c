"use strict";
(() => {
  const candidates = [...document.querySelectorAll(".candidate")];
  const status = document.querySelector(".bar [role=status]"), button = document.querySelector(".bar button");
  const keys = { 1: "keep", 2: "drop", 3: "relabel" };
  let unsaved = false;
  const radio = (candidate, action) => candidate.querySelector(`input[value="${action}"]`);
  const label = candidate => candidate.querySelector("select, input[type=text]");
  const action = candidate => candidate.querySelector("input:checked")?.value ?? "";
  // A correction without a label is none.
  const decided = candidate => action(candidate) && !(action(candidate) === "relabel" && !label(candidate).value);

  function show() {
    const done = candidates.filter(decided);
    candidates.forEach(candidate => candidate.classList.toggle("decided", Boolean(decided(candidate))));
    status.textContent = `${done.length} of ${candidates.length} decided`;
    button.disabled = !done.length;
  }

  function csv() {
    const cells = candidates.filter(decided).map(candidate => {
      const [image, issue, reason] = JSON.parse(candidate.dataset.saved);
      const value = action(candidate) === "relabel" ? label(candidate).value : "";
      return [image, issue, action(candidate), value, reason];
    });
    const quoted = row => row.map(text => `"${text.replaceAll('"', '""')}"`).join(",");
    return ["image_id,issue,action,value,reason", ...cells.map(quoted)].join("\r\n") + "\r\n";
  }

  function move(step) {
    const at = candidates.findIndex(candidate => candidate.contains(document.activeElement));
    const next = candidates[at < 0 ? 0 : Math.min(Math.max(at + step, 0), candidates.length - 1)];
    next?.scrollIntoView({ block: "center" });
    next?.focus({ preventScroll: true });
  }

  document.addEventListener("change", event => {
    const candidate = event.target.closest(".candidate");
    if (!candidate) return;
    if (event.target === label(candidate)) radio(candidate, "relabel").checked = true;
    unsaved = true;
    show();
  });
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=text]")) return;
    if (event.key === "j" || event.key === "k") { event.preventDefault(); move(event.key === "j" ? 1 : -1); return; }
    const candidate = document.activeElement.closest(".candidate");
    if (!candidate || !/^[0-3]$/.test(event.key)) return;
    if (event.key === "0") candidate.querySelectorAll("input:checked").forEach(input => { input.checked = false; });
    else {
      const input = radio(candidate, keys[event.key]);
      if (!input) return;
      input.checked = true;
      if (event.key === "3") { event.preventDefault(); label(candidate).focus(); }
    }
    unsaved = true;
    show();
  });
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "decisions.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    unsaved = false;
  });
  addEventListener("beforeunload", event => { if (unsaved) event.preventDefault(); });
  candidates.forEach(candidate => {
    const before = candidate.dataset.before && radio(candidate, candidate.dataset.before);
    if (before) before.checked = true;
  });
  show();
})();
