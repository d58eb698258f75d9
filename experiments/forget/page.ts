/** The page "What does it forget?": its two sections, and the link that carries their settings. */
import { openLive } from "./live.ts";
import { openNeedles } from "./needles.ts";
import { byId } from "./view.ts";

const link = new URLSearchParams(location.hash.slice(1));
let needles = () => ({});

/** Settings stand behind the #, which no browser sends to a server. */
function keepLink(): void {
  history.replaceState(null, "", `#${new URLSearchParams({ ...live(), ...needles() })}`);
}

const live = openLive(link, keepLink);
byId("copy").addEventListener("click", async () => {
  keepLink();
  await navigator.clipboard?.writeText(location.href);
  byId("copy").textContent = "Copied";
});
openNeedles(link, keepLink).then((settings) => needles = settings, (error) => {
  byId("error").textContent = error.message;
});
