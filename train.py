"""`python train.py --model vae --epochs 10 --batch_size 4 --data_path D --ckpt_path C`: the same as `blemish train`."""

import sys

from blemish.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
