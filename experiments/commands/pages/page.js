// deno-lint-ignore-file no-var no-inner-declarations -- a program of a page, in the style of those of reports
// Shows news as they come. A report is drawn out of sight, takes over what the reader has done, and is then shown.
(function () {
  var QUIET_MS = 1500;
  var text = document.getElementById("text"),
    bar = document.getElementById("bar"),
    frames = document.querySelectorAll("iframe");
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
          fresh.contentWindow.addEventListener(name, function () {
            touched = Date.now();
          }, { passive: true });
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
      from.querySelectorAll(selector).forEach(function (own, i) {
        if (theirs[i]) visit(own, theirs[i]);
      });
    };
    all("input[type=search]", function (own, other) {
      if (own.value === "") return;
      other.value = own.value;
      other.dispatchEvent(new Event("input"));
    });
    all("details", function (own, other) {
      other.open = own.open;
    });
    all("table", function (own, other) {
      var head = own.querySelector("th[aria-sort]");
      if (head === null) return;
      var same = Array.from(other.querySelectorAll("th")).find(function (th) {
        return th.textContent === head.textContent;
      });
      for (var i = head.getAttribute("aria-sort") === "descending" ? 2 : 1; same && i > 0; i--) {
        same.firstChild.click();
      }
    });
  }
})();
