// A picture, large, with its neighbours an arrow key away.
import { find } from './dom.js';

const dialog = find('#viewer'), image = find('img', dialog), place = find('.s2i-place', dialog);
let shown = [], at = 0, save = null;

function show(k) {
  at = (k + shown.length) % shown.length;
  image.src = shown[at].src;
  image.alt = shown[at].alt;
  place.textContent = `${at + 1} of ${shown.length}`;
}

// Shows picture `k` of the images `pictures`; `keep` is called with the place of the one to save.
export function enlarge(pictures, k, keep) {
  shown = pictures;
  save = keep;
  show(k);
  dialog.showModal();
}

find('.s2i-before', dialog).addEventListener('click', () => show(at - 1));
find('.s2i-after', dialog).addEventListener('click', () => show(at + 1));
find('.s2i-keep', dialog).addEventListener('click', () => save(at));
find('.s2i-close', dialog).addEventListener('click', () => dialog.close());
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener('keydown', (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) { event.preventDefault(); show(at + step); }
});
