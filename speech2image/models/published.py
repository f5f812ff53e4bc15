"""Published files that preparing, training and measuring take: address, size, checksum, licence.

None of them comes with this package. `speech2image download NAME` fetches them; errors about missing files
say where they are (`where`).
"""

from dataclasses import dataclass, field

_VGG = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
_WHISPER = "https://huggingface.co/openai/whisper-tiny.en/resolve/main"
_KOKORO = (
    "https://huggingface.co/onnx-community/Kokoro-82M-v1.0-ONNX/resolve/"
    "1939ad2a8e416c0acfeecc08a694d14ef25f2231"
)
_SPEAKERS = (
    *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova"),
    *("af_river", "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam"),
    *("am_michael", "am_onyx", "am_puck", "am_santa", "bf_alice", "bf_emma", "bf_isabella", "bf_lily"),
    *("bm_daniel", "bm_fable", "bm_george", "bm_lewis"),
)


@dataclass(frozen=True)
class PublishedFile:
    """One file.

    Attributes:
        url: its address.
        megabytes: about its size.
        checksum: "sha256:...", "sha1:..." or "md5:..." as its publisher or others state it, of sha256 perhaps
            the first digits alone; "" where none is known.
        place: where it goes, within the folder it is fetched to.
    """

    url: str
    megabytes: float
    checksum: str = ""
    place: str = ""

    @property
    def path(self) -> str:
        """Where it goes."""
        return self.place or self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Published:
    """Files that belong together.

    Attributes:
        what: for people.
        licence: under which terms.
        used_by: the commands that take it.
        files: all of them.
        voices: whether they are voice files, which lie in a folder of their own.
    """

    what: str
    licence: str
    used_by: str
    files: tuple[PublishedFile, ...] = field(repr=False)
    voices: bool = False

    @property
    def megabytes(self) -> float:
        """About the size of all."""
        return sum(file.megabytes for file in self.files)


PUBLISHED: dict[str, Published] = {
    "oxford102": Published(
        "Oxford-102 flowers, 8,189 photographs, with labels and splits",
        "for research; the photographs belong to their authors (Nilsback and Zisserman 2008)",
        "prepare oxford102 --root",
        (
            PublishedFile(f"{_VGG}/102flowers.tgz", 345.0, "md5:52808999861908f626f3c1f4e79d11fa"),
            PublishedFile(f"{_VGG}/imagelabels.mat", 0.001, "md5:e0620be6f572b9609742df49c70aed4d"),
            PublishedFile(f"{_VGG}/setid.mat", 0.015, "md5:a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
    ),
    "cub": Published(
        "CUB-200-2011 birds, 11,788 photographs with bounding boxes",
        "for non-commercial research and education; the photographs belong to their authors",
        "prepare cub --root",
        (
            PublishedFile(
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                1151.0,
                "md5:97eceeb196236b17998738112f37df78",
            ),
        ),
    ),
    "ljspeech": Published(
        "LJSpeech-1.1, 24 hours of one reader, with transcripts",
        "public domain",
        "prepare recordings, prepare words",
        (
            PublishedFile(
                "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
                2749.0,
                "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
            ),
        ),
    ),
    "librispeech-dev-clean": Published(
        "LibriSpeech dev-clean, 5 hours of 40 readers, with transcripts",
        "CC BY 4.0",
        "prepare recordings, prepare words",
        (
            PublishedFile(
                "https://www.openslr.org/resources/12/dev-clean.tar.gz",
                338.0,
                "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
            ),
        ),
    ),
    "googlenet": Published(
        "GoogLeNet trained on ImageNet (Caffe's), the image teacher",
        "released for unrestricted use (BVLC model zoo)",
        "prepare teacher --weights, train --teacher",
        (
            PublishedFile(
                "http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel",
                54.0,
                "sha1:405fc5acd08a3bb12de8ee5e23a96bec22f08204",
            ),
        ),
    ),
    "inception": Published(
        "Inception-v3 of 2015-12-05, the network that FID is defined on",
        "Apache-2.0 (TensorFlow's weights, as pytorch-fid converted them)",
        "fid --network, evaluate --network",
        (
            PublishedFile(
                "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
                "pt_inception-2015-12-05-6726825d.pth",
                96.0,
                "sha256:6726825d",
            ),
        ),
    ),
    "efficientnet-lite0": Published(
        "EfficientNet-Lite0 trained on ImageNet, a second network for discriminators",
        "Apache-2.0",
        "train one-stage-gan --second-network",
        (
            PublishedFile(
                "https://huggingface.co/timm/tf_efficientnet_lite0.in1k/resolve/main/model.safetensors",
                18.8,
                place="tf_efficientnet_lite0.in1k.safetensors",
            ),
        ),
    ),
    "whisper-tiny.en": Published(
        "Whisper tiny.en: encoder, decoder and tokenizer",
        "Apache-2.0",
        "train pretrained-speech-encoder --backbone, --decoder",
        (
            PublishedFile(f"{_WHISPER}/model.safetensors", 151.0, place="whisper-tiny.en/model.safetensors"),
            PublishedFile(f"{_WHISPER}/tokenizer.json", 2.4, place="whisper-tiny.en/tokenizer.json"),
        ),
    ),
    "kokoro": Published(
        f"Kokoro-82M, {len(_SPEAKERS)} English speakers",
        "Apache-2.0",
        "say, prepare --voices 'kokoro/*'",
        (
            PublishedFile(
                f"{_KOKORO}/onnx/model_quantized.onnx",
                92.0,
                "sha256:fbae9257e1e05ffc727e951ef9b9c98418e6d79f1c9b6b13bd59f5c9028a1478",
                "kokoro/onnx/model_quantized.onnx",
            ),
            PublishedFile(f"{_KOKORO}/tokenizer.json", 0.004, place="kokoro/tokenizer.json"),
            *(
                PublishedFile(f"{_KOKORO}/voices/{name}.bin", 0.52, place=f"kokoro/voices/{name}.bin")
                for name in _SPEAKERS
            ),
        ),
        voices=True,
    ),
}


def where(name: str) -> str:
    """The end of an error about a missing file: what fetches it, from where, how much that is."""
    found = PUBLISHED[name]
    first = found.files[0]
    told = f", {first.checksum.replace(':', ' ', 1)}" if first.checksum else ""
    return f"speech2image download {name} fetches it from {first.url} ({found.megabytes:.0f} MB{told})"
