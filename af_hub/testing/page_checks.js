// What is wrong with the page in the window, as sentences. Run by af_hub.testing.chromium; the argument is the least size of targets in px.
"use strict";
const LEAST = arguments[0];
const faults = [];
const all = (css, root = document) => [...root.querySelectorAll(css)];
const words = (element) => element.textContent.replace(/\s+/g, " ").trim().slice(0, 40);
const called = (e) => `<${e.tagName.toLowerCase()}${e.id ? "#" + e.id : ""}> "${words(e) || e.name || e.className}"`;

function seen(element) {
  if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true, contentVisibilityAuto: true })) return false;
  // What is for screen readers alone lies in a box of one pixel.
  for (let at = element; at; at = at.parentElement) {
    const box = at.getBoundingClientRect();
    const tiny = box.width <= 2 || box.height <= 2;
    if (tiny && (at === element || getComputedStyle(at).overflow === "hidden")) return false;
  }
  return true;
}

// --- Structure ---
if (!document.documentElement.lang) faults.push("the page does not say its language");
if (!document.title.trim()) faults.push("the page has no title");
if (!document.querySelector('meta[name="viewport"]')) faults.push("the page has no viewport, so phones shrink it");
const mains = all("main, [role=main]").filter(seen);
if (mains.length !== 1) faults.push(`the page has ${mains.length} main landmarks, wanted one`);
const heads = all("h1, h2, h3, h4, h5, h6").filter((head) => head.checkVisibility());
if (heads.filter((head) => head.tagName === "H1").length !== 1) faults.push("the page has not exactly one h1");
heads.reduce((level, head) => {
  const own = Number(head.tagName[1]);
  if (own > level + 1) faults.push(`${called(head)} comes after a heading of level ${level}`);
  return own;
}, 0);
const ids = all("[id]").map((element) => element.id);
for (const id of new Set(ids.filter((one, place) => ids.indexOf(one) !== place))) faults.push(`the id ${id} stands twice`);
for (const image of all("img:not([alt])")) faults.push(`${called(image)} has no alt`);
for (const table of all("table").filter(seen)) if (!table.querySelector("th")) faults.push(`${called(table)} has no headings`);

// --- Names ---
function named(element) {
  const labels = (element.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "");
  const texts = [element.getAttribute("aria-label"), ...labels, element.title, ...[...(element.labels || [])].map((one) => one.textContent)];
  if (!element.matches("input, select, textarea")) texts.push(element.textContent, ...all("img", element).map((image) => image.alt));
  if (element.matches("input[type=submit], input[type=button]")) texts.push(element.value);
  return texts.some((text) => (text || "").trim());
}
const ACTIVE = "a[href], button, summary, input:not([type=hidden]), select, textarea, [tabindex], [role=button]";
const active = all(ACTIVE).filter((element) => seen(element) && !element.disabled && element.tabIndex >= -1);
for (const element of active) {
  if (!named(element)) faults.push(`${called(element)} has no name`);
  if (element.tabIndex > 0) faults.push(`${called(element)} has a tabindex above 0`);
  // Chromium says 0 of a link without an address, although Tab passes over it.
  const reached = element.tabIndex >= 0 && element.matches("a[href], button, summary, input, select, textarea, [tabindex]");
  if (!reached && element.matches("a, button, [role=button]")) faults.push(`${called(element)} is not reached with the keyboard`);
}

// --- Sizes ---
function target(element) {
  const label = element.matches("input") && element.labels?.length ? element.labels[0] : element;
  return label.getBoundingClientRect();
}
// A link in the middle of a sentence is as high as its line (WCAG 2.2, success criterion 2.5.8, exception "inline").
function inSentence(element) {
  const around = element.parentElement;
  return getComputedStyle(element).display === "inline" && words(around) !== words(element);
}
for (const element of active.filter((one) => one.tabIndex >= 0 && !inSentence(one))) {
  const box = target(element);
  if (box.width < LEAST - 0.5 || box.height < LEAST - 0.5)
    faults.push(`${called(element)} is ${Math.round(box.width)} × ${Math.round(box.height)} px large, wanted ${LEAST}`);
}

// --- Fit ---
const root = document.documentElement;
if (root.scrollWidth > root.clientWidth) faults.push(`the page is ${root.scrollWidth} px wide in a window of ${root.clientWidth}`);
const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowX);
function scroller(element) {
  for (let at = element.parentElement; at; at = at.parentElement) if (scrolls(at)) return at;
  return null;
}
const texts = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  if (!node.data.trim() || !seen(node.parentElement) || node.parentElement.closest("script, style, noscript, option")) continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  texts.push({ element: node.parentElement, text: node.data.trim().slice(0, 40), boxes: [...range.getClientRects()] });
}
for (const { element, text, boxes } of texts) {
  const inside = scroller(element);
  if (!inside && boxes.some((box) => box.left < -1 || box.right > root.clientWidth + 1)) faults.push(`"${text}" leaves the window`);
  for (let at = element; at && at !== document.body; at = at.parentElement) {
    const style = getComputedStyle(at);
    if (!["hidden", "clip"].includes(style.overflowX)) continue;
    const frame = at.getBoundingClientRect();
    if (frame.width > 2 && boxes.some((box) => box.right > frame.right + 1 || box.bottom > frame.bottom + 1)) faults.push(`"${text}" is cut off`);
  }
}
texts.forEach((one, place) => {
  for (const other of texts.slice(place + 1)) {
    const lies = one.boxes.some((a) => other.boxes.some((b) =>
      Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4));
    if (lies) faults.push(`"${one.text}" and "${other.text}" lie on each other`);
  }
});

// --- Contrast (WCAG 2.2, success criterion 1.4.3) ---
const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
function rgba(colour) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return { part: [red, green, blue], alpha: alpha / 255 };
}
const over = (top, part) => part.map((below, place) => top.part[place] * top.alpha + below * (1 - top.alpha));
const sheet = document.body.appendChild(document.createElement("i"));
sheet.style.backgroundColor = "Canvas";
const paper = rgba(getComputedStyle(sheet).backgroundColor).part;
sheet.remove();
function ground(element) {
  if (!element) return paper;
  const own = rgba(getComputedStyle(element).backgroundColor);
  return own.alpha === 1 ? own.part : over(own, ground(element.parentElement));
}
function light(part) {
  const [red, green, blue] = part.map((one) => (one / 255 <= 0.04045 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
function contrast(a, b) {
  const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}
for (const { element, text } of texts) {
  if (element.closest(":disabled")) continue;
  const style = getComputedStyle(element), behind = ground(element), size = parseFloat(style.fontSize);
  let opacity = 1;
  for (let at = element; at; at = at.parentElement) opacity *= Number(getComputedStyle(at).opacity);
  const ink = rgba(style.color);
  const found = contrast(over({ part: ink.part, alpha: ink.alpha * opacity }, behind), behind);
  const wanted = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
  if (found < wanted) faults.push(`"${text}" has a contrast of ${found.toFixed(2)}, wanted ${wanted}`);
}
return [...new Set(faults)];
