// What visitors read when something goes wrong. The server gives a code and a sentence for programmers; this is the
// page's own wording of the codes.
export const SPEAK = 'Hold the button and say in English what you want to see.';

const WORDING = {
  no_speech: 'I heard nobody speak. Come closer to the microphone, away from music and noise, and try again.',
  no_words: 'I heard no word that I know. ' + SPEAK,
  empty: 'This recording is empty. Please try another one.',
  too_short: 'That was too short. Please say a whole sentence.',
  too_long: 'That was too long. One sentence is enough.',
  unreadable: 'This is not a recording that can be played, or it is damaged. Please try another one.',
  too_large: 'This file is too large. Please choose a shorter recording.',
  arrived_too_slowly: 'The connection was too slow for this recording. Please choose a shorter one.',
  took_too_long: 'This took too long. Say something shorter, ask for fewer pictures, or try again later.',
  busy: 'Many people are drawing right now. Please try again in a moment.',
  too_many: 'You have asked for much at once. Please wait a moment, then try again.',
  no_sentence: 'Type a sentence first.',
  sentence_too_long: 'This sentence is too long. Please shorten it.',
  reads_no_text: 'Typed sentences cannot be drawn here. ' + SPEAK,
  not_installed: 'Typed sentences cannot be spoken here. ' + SPEAK,
  setting: 'This cannot be drawn with these settings. Please choose others.',
  invalid: 'This cannot be drawn with these settings. Please choose others.',
  unknown: 'This model is not offered any more. Please load the page again.',
  needs_key: 'This page needs the key of the server again: load it again and log in.',
  offline: 'The server does not answer. Your recording is kept: press Again when it is back.',
  stopping: 'The server is being restarted. Your recording is kept: press Again when it is back.',
  both: 'Both descriptions are needed: speak, type or choose the one that is missing.',
};

export const wordingOf = (code) => WORDING[code] || 'Something went wrong on the server. Please try again.';

// Codes that say that another try with the same recording would end the same way.
export const HOPELESS = new Set(['no_speech', 'no_words', 'empty', 'too_short', 'too_long', 'unreadable', 'too_large',
  'no_sentence', 'sentence_too_long']);
