// Says what the app answers, whether the style sheet is there, and over what each part came.
addEventListener("load", async () => {
  const answer = await (await fetch("/app/hello")).text();
  const said = document.getElementById("said");
  const came = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter((entry) => !entry.name.endsWith("favicon.ico"))
    .map((entry) => `${new URL(entry.name).pathname}=${entry.nextHopProtocol}`);
  said.textContent = [answer.trim(), getComputedStyle(said).borderLeftWidth, ...came.sort()].join("; ");
});
