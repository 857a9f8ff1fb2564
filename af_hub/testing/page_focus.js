// Where the keyboard is: which element, whether a person sees that, and what there is to reach. Run by af_hub.testing.chromium.
"use strict";
const ACTIVE = "a[href], button, summary, input:not([type=hidden]), select, textarea, [tabindex='0']";
function reached(element) {
  if (element.disabled || element.tabIndex < 0 || !element.checkVisibility({ visibilityProperty: true })) return false;
  if (element.type !== "radio" || element.checked) return true;
  // One stop for a group of radio buttons: the chosen one, or the first when none is.
  const group = [...document.querySelectorAll("input[type=radio]")].filter((one) => one.name === element.name && one.form === element.form);
  return !group.some((one) => one.checked) && group[0] === element;
}
const stops = [...document.querySelectorAll(ACTIVE)].filter(reached);
const here = document.activeElement;
const name = (element) => element.textContent.replace(/\s+/g, " ").trim().slice(0, 40) || element.getAttribute("aria-label") || element.value || element.tagName;
function ringed(element) {
  const style = getComputedStyle(element);
  // "auto" is the browser's own ring.
  return style.outlineStyle === "auto" || (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
}
let visible = false;
for (let at = here, far = 0; at && far < 4; at = at.parentElement, far += 1) visible ||= ringed(at);
const box = here.getBoundingClientRect();
return {
  place: stops.indexOf(here), stops: stops.map(name), name: name(here), visible,
  inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
};
