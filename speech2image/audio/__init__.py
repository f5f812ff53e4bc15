"""Speech in: any recording -> mono 16 kHz waveform -> log-mel spectrogram."""

from speech2image.audio.decode import MAX_SECONDS as MAX_SECONDS
from speech2image.audio.decode import Samples as Samples
from speech2image.audio.decode import Source as Source
from speech2image.audio.decode import load as load
from speech2image.audio.decode import load_beginning as load_beginning
from speech2image.audio.encode import encode_flac as encode_flac
from speech2image.audio.encode import encode_opus as encode_opus
from speech2image.audio.mel import FLOOR_DB as FLOOR_DB
from speech2image.audio.mel import HOP as HOP
from speech2image.audio.mel import MAX_FREQUENCY as MAX_FREQUENCY
from speech2image.audio.mel import MIN_FRAMES as MIN_FRAMES
from speech2image.audio.mel import MIN_FREQUENCY as MIN_FREQUENCY
from speech2image.audio.mel import MIN_SAMPLES as MIN_SAMPLES
from speech2image.audio.mel import N_MELS as N_MELS
from speech2image.audio.mel import SAMPLE_RATE as SAMPLE_RATE
from speech2image.audio.mel import SILENCE_PEAK as SILENCE_PEAK
from speech2image.audio.mel import log_mel as log_mel
from speech2image.audio.mel import mel_filterbank as mel_filterbank
from speech2image.audio.samples import with_rate as with_rate
