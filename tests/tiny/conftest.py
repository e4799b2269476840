import pytest

from verl_vaopd.tiny.processor import make_processor


@pytest.fixture(scope="session")
def processor():
    return make_processor()


@pytest.fixture(scope="session")
def tokenizer(processor):
    return processor.tokenizer
