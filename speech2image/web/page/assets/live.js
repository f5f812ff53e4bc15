// Pictures while somebody speaks: sound goes out over a WebSocket, and about twice a second a picture of what was said
// so far comes back. Where WebSockets are blocked nothing comes, and the pictures are those drawn at the end, as ever.
import { make } from './dom.js';
import { isUnknown, wordsOf } from './results.js';

export class Live {
  // Shows itself in `box`; `settings`: seed, and model and route where there is a choice.
  constructor(box, { seed, model, route }) {
    this.image = make('img', { alt: 'What is drawn while you speak', hidden: true });
    this.words = make('p', { class: 's2i-transcript' });
    this.waiting = [];
    // Not read out: the microphone would hear it.
    box.replaceChildren(make('section', { class: 's2i-live', 'aria-hidden': 'true' },
      make('div', { class: 's2i-large' }, this.image), this.words));
    const address = new URL('v1/live', location.href);
    address.protocol = address.protocol.replace('http', 'ws');
    address.search = new URLSearchParams({ n: 1, seed, ...(model ? { model } : {}), ...(route ? { route } : {}) });
    address.hash = '';
    try {
      this.socket = new WebSocket(address);
    } catch (error) {
      return;
    }
    this.socket.addEventListener('open', () => this.waiting.splice(0).forEach((slice) => this.socket.send(slice)));
    this.socket.addEventListener('message', (event) => this.take(JSON.parse(event.data)));
  }

  // Hands on the next part of the recording.
  send(slice) {
    if (!this.socket || this.socket.readyState > WebSocket.OPEN) return;
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(slice); else this.waiting.push(slice);
  }

  take(event) {
    if (event.type !== 'partial' || !this.image.isConnected) return;
    this.image.src = `data:image/webp;base64,${event.picture.webp}`;
    this.image.hidden = false;
    const unknown = isUnknown(event); // as it may be until enough was said
    this.image.classList.toggle('s2i-doubted', unknown);
    this.words.replaceChildren(unknown ? 'Nothing I know so far' : event.transcript ? 'I hear' : '',
      ...(event.transcript ? [': ', make('q', {}, ...wordsOf({ words: [], ...event }))] : []));
  }

  // The recording is over, or nobody wants its pictures.
  close() {
    this.socket?.close();
  }
}
