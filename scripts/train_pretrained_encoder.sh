#!/usr/bin/env bash
# Everything from photographs and captions to a speech encoder on Whisper's, two processes at a time.
#
#   FLOWERS=oxford102 BIRDS=cub200 LIBRISPEECH=LibriSpeech/dev-clean LJSPEECH=LJSpeech-1.1 \
#   WHISPER=whisper-tiny.en TEACHER=bvlc_googlenet.safetensors scripts/train_pretrained_encoder.sh runs/encoder
#
# Run it again after an interruption: whatever is whole is passed over, everything else goes on where it stopped.
# Voices of Piper and Kokoro lie in $SPEECH2IMAGE_VOICES (docs/data.md). STEPS (head, words, tuning) and SPOKEN
# (utterances a set by Piper, Kokoro's speakers, Kokoro's mixtures, people's spliced words, short commands, and
# sentences about other things) may be set; larger numbers later go on from there. docs/recipes.md, section 2a, has times and results.
set -eu
out=${1:?folder to write}
: "${FLOWERS:?}" "${BIRDS:?}" "${LIBRISPEECH:?}" "${LJSPEECH:?}" "${WHISPER:?}" "${TEACHER:?}"
read -r head_steps words_steps tune_steps <<< "${STEPS:-4000 4000 2000}"
read -r piper kokoro mixtures people short other <<< "${SPOKEN:-3000 500 1000 6000 3000 6000}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
flowers=$out/shards/flowers birds=$out/shards/birds bank=$out/words
engines="flite/slt flite/rms flite/awb espeak-ng/en-us espeak-ng/en-gb"
engines_kept_out="flite/kal16 espeak-ng/en-gb-scotland"
readers_kept_out="reader/3853 reader/5338 reader/6241 reader/6295"
natural_kept_out="kokoro/af_river kokoro/am_onyx kokoro/bf_lily"
kept_out="$engines_kept_out $readers_kept_out $natural_kept_out"

speak() { # NAME FOLDER PART OPTIONS...: one part of a set's speech
  local root=$FLOWERS name=$1 folder=$2 part=$3; shift 3
  [ "$name" = flower ] || root=$BIRDS
  speech2image prepare folder --root "$root" --out "$folder" --validation 0.05 --part "$part" "$@"
}
both() { # FUNCTION: for both sets at once
  "$1" flower "$flowers" & local first=$!
  "$1" bird "$birds" & wait $! && wait $first
}
prepared() {
  speak "$1" "$2" spoken --voices $engines --held-out-voices $engines_kept_out --speak-limit 1000000
  speech2image prepare teacher --data "$2" --weights "$TEACHER" --crops 2
}
spoken_naturally() {
  local even="--utterances-per-shard 50 --seed 7"
  speak "$1" "$2" kokoro-kept-out $even --speak-splits test --augment 0 --voices $natural_kept_out --speak-limit 300
  [ "$piper" = 0 ] || speak "$1" "$2" piper $even --speak-splits train --delivery varied --voices piper/en_US-joe-medium --speak-limit "$piper"
  [ "$kokoro" = 0 ] || speak "$1" "$2" kokoro $even --speak-splits train --delivery varied --voices 'kokoro/*' --held-out-voices $natural_kept_out --speak-limit "$kokoro"
  [ "$mixtures" = 0 ] || speak "$1" "$2" kokoro-mix $even --speak-splits train --delivery varied --voices kokoro/mix --held-out-voices $natural_kept_out --speak-limit "$mixtures"
}
spoken_by_people() {
  local strong="--word-bank $bank --effects strong --utterances-per-shard 250"
  speak "$1" "$2" people $strong --seed 2 --voices 'reader/*' --held-out-voices $readers_kept_out --speak-limit "$people"
  speak "$1" "$2" short $strong --seed 3 --captions short --domain "$1" --voices $engines 'reader/*' \
    --held-out-voices $engines_kept_out $readers_kept_out --speak-limit "$short"
}
about_other_things() { # as the captions are spoken, so that only what is said tells them apart
  local voices="--voices $engines $engines_kept_out espeak-ng/de espeak-ng/fr espeak-ng/es espeak-ng/it"
  speech2image prepare other --out "$out/recordings/other" --n "$other" $voices
  speech2image prepare other --out "$out/recordings/other-test" --n 1000 --split test $voices
}
recorded() { # of both corpora, Whisper's frames
  speech2image prepare recordings --root "$LIBRISPEECH" --out "$out/recordings/librispeech" --front-end whisper-80
  speech2image prepare recordings --root "$LJSPEECH" --out "$out/recordings/ljspeech" --front-end whisper-80
}

both prepared
{ recorded; about_other_things; } &
[ -d "$bank" ] || speech2image prepare words --roots "$LIBRISPEECH" "$LJSPEECH" --captions "$FLOWERS" "$BIRDS" --out "$bank"
wait $!
both spoken_by_people
both spoken_naturally

data="--data $flowers $birds --held-out-voices $kept_out"
recordings="--recordings $out/recordings/librispeech $out/recordings/ljspeech"
speech2image train pretrained-speech-encoder --preset head $data --backbone "$WHISPER" --steps "$head_steps" --out "$out/head"
speech2image train words-head --encoder "$out/head/checkpoint.safetensors" $data $recordings --steps "$words_steps" --out "$out/words_head"
encoder=$out/words_head/checkpoint.safetensors
if [ "$tune_steps" != 0 ]; then # recordings are heard thrice: there are far more captions
  speech2image train pretrained-speech-encoder --preset tune $data $recordings ${recordings#--recordings } ${recordings#--recordings } \
    --favoured-voices 'reader/*' --favour 3 --decoder "$WHISPER" --start-from "$encoder" --steps "$tune_steps" --out "$out/tuned"
  encoder=$out/tuned/checkpoint.safetensors
fi
speech2image train domain-head --encoder "$encoder" $data --domains flower bird \
  --other "$out/recordings/other" "$out/recordings/other-test" "$out/recordings/librispeech" "$out/recordings/ljspeech" --out "$out/domain_head"
