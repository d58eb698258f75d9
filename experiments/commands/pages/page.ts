/** The page around a report that grows: how far the run is, and the last report, which a newer one takes the place of. */

const STYLE = `
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #59636e; --page: #f6f7f9; --line: #dfe3e8; --bar: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --muted: #9aa4af; --page: #12161a; --line: #2c333b;
  --bar: #5ab4f0; } }
* { box-sizing: border-box; }
body { margin: 0; height: 100dvh; display: flex; flex-direction: column; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
header { border-bottom: 1px solid var(--line); }
header p { margin: 0 auto; padding: 8px 16px; max-width: 1120px; overflow-wrap: anywhere; }
#bar { height: 3px; width: 0; background: var(--bar); transition: width 0.3s; }
main { position: relative; flex: 1; }
main p { color: var(--muted); text-align: center; margin: 18vh 16px 0; }
iframe { position: absolute; inset: 0; width: 100%; height: 100%; border: 0; visibility: hidden; }
iframe.front { visibility: visible; background: var(--page); }
@media (max-width: 600px) { header p { padding: 8px; } }
`;

/** Shows news as they come. A report is drawn out of sight, takes over what the reader has done, and is then shown. */
const SCRIPT = `(function () {
var QUIET_MS = 1500;
var text = document.getElementById("text"), bar = document.getElementById("bar"), frames = document.querySelectorAll("iframe");
var front = 0, busy = false, waiting = null, touched = 0, timer = 0;
var source = new EventSource("events");
source.onmessage = function (event) {
  var news = JSON.parse(event.data);
  text.textContent = news.text;
  document.title = news.text + " · Token Filtering";
  bar.style.width = 100 * news.fraction + "%";
  if (news.ended) source.close();
  if (news.report) {
    waiting = news.report;
    renew();
  }
};
source.onerror = function () {
  text.textContent = "The run does not answer: this is the last that it showed.";
};
function renew() {
  if (busy || waiting === null) return;
  clearTimeout(timer);
  var rest = touched + QUIET_MS - Date.now();
  if (rest > 0) {
    timer = setTimeout(renew, rest);
    return;
  }
  busy = true;
  var old = frames[front], fresh = frames[1 - front], html = waiting;
  waiting = null;
  fresh.onload = function () {
    fresh.onload = null;
    requestAnimationFrame(function () {
      if (old.className === "front") carry(old.contentDocument, fresh.contentDocument);
      fresh.contentWindow.scrollTo(0, old.contentWindow.scrollY);
      ["pointermove", "pointerdown", "wheel", "keydown", "touchmove", "scroll"].forEach(function (name) {
        fresh.contentWindow.addEventListener(name, function () { touched = Date.now(); }, { passive: true });
      });
      fresh.className = "front";
      fresh.removeAttribute("tabindex");
      old.className = "";
      old.tabIndex = -1;
      front = 1 - front;
      busy = false;
      renew();
    });
  };
  fresh.srcdoc = html;
}
// What a reader has typed, sorted and opened stays so.
function carry(from, to) {
  var all = function (selector, visit) {
    var theirs = to.querySelectorAll(selector);
    from.querySelectorAll(selector).forEach(function (own, i) { if (theirs[i]) visit(own, theirs[i]); });
  };
  all("input[type=search]", function (own, other) {
    if (own.value === "") return;
    other.value = own.value;
    other.dispatchEvent(new Event("input"));
  });
  all("details", function (own, other) { other.open = own.open; });
  all("table", function (own, other) {
    var head = own.querySelector("th[aria-sort]");
    if (head === null) return;
    var same = Array.from(other.querySelectorAll("th")).find(function (th) { return th.textContent === head.textContent; });
    for (var i = head.getAttribute("aria-sort") === "descending" ? 2 : 1; same && i > 0; i--) same.firstChild.click();
  });
}
})();`;

/** The page; plotly is loaded with it, so that a report that comes as the run ends has it. */
export const PAGE = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'self'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; connect-src 'self'; frame-src 'self'">
<title>Token Filtering</title>
<link rel="icon" href="data:,">
<link rel="preload" as="script" href="plotly.min.js">
<style>${STYLE}</style>
</head>
<body>
<header><p id="text" role="status">Connects…</p><div id="bar"></div></header>
<main><p>The report begins with the first trial.</p>
<iframe title="The report so far" tabindex="-1"></iframe><iframe title="The report so far" tabindex="-1"></iframe></main>
<script>${SCRIPT}</script>
</body>
</html>
`;
